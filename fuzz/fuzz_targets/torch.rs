//! PyTorch files in both containers. The input is a pickle and the bytes of some storages, put into a sound archive, so that the
//! fuzzer works on the pickle; `model_file` damages the archive itself. Seeds: `fixtures/unpacked/formats/pth`.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// A zip archive of stored entries.
fn archive(entries: &[(String, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (vec![], vec![]);
    for (name, data) in entries {
        let start = out.len() as u32;
        let n_bytes = (data.len() as u32).to_le_bytes();
        // Flags, method, time, date and checksum are zero.
        let fields = [&[20, 0][..], &[0; 12], &n_bytes, &n_bytes, &(name.len() as u16).to_le_bytes(), &[0; 2]].concat();
        out.extend([b"PK\x03\x04", &fields[..], name.as_bytes(), data].concat());
        directory
            .extend([b"PK\x01\x02\x14\x00", &fields[..], &[0; 10], &start.to_le_bytes(), name.as_bytes()].concat());
    }
    let (start, n_bytes) = ((out.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    let n_entries = (entries.len() as u16).to_le_bytes();
    out.extend(directory);
    out.extend([b"PK\x05\x06", &[0; 4][..], &n_entries, &n_entries, &n_bytes, &start, &[0; 2]].concat());
    out
}

fuzz_target!(|input: (Vec<u8>, Vec<Vec<u8>>, bool)| {
    let (pickle, storages, is_legacy) = input;
    if is_legacy {
        // Magic, version 1001, {"little_endian": True}; the object, keys and storages are the fuzzer's.
        let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
        bytes.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
        bytes.extend(pickle);
        bytes.extend(storages.concat());
        return anser_fuzz::read_model_file(&bytes);
    }
    let mut entries = vec![("a/data.pkl".to_owned(), &pickle[..])];
    entries.extend(storages.iter().enumerate().map(|(key, data)| (format!("a/data/{key}"), &data[..])));
    anser_fuzz::read_model_file(&archive(&entries));
});
