//! Metadata that no engine reads do not stop a file, and those that would fill memory do.

use std::sync::Arc;

use anser_format::{DType, FormatError, GgufWriter, MetaArray, MetaValue, ModelFile};

/// A GGUF string.
fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// A metadata entry of a type that is given by its number.
fn entry(key: &str, type_id: u32, value: &[u8]) -> Vec<u8> {
    [&text(key.as_bytes())[..], &type_id.to_le_bytes(), value].concat()
}

/// Element type, length and elements of an array.
fn array(type_id: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    [&type_id.to_le_bytes()[..], &(elements.len() as u64).to_le_bytes(), &elements.concat()].concat()
}

/// A GGUF file with these entries and one tensor, `t`, of 8 bytes.
fn gguf(entries: &[Vec<u8>]) -> Result<Arc<ModelFile>, FormatError> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend([1, entries.len() as u64].iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(entries.concat());
    bytes.extend(text(b"t"));
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(2u64.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 8, 0);
    ModelFile::from_bytes("m.gguf", bytes)
}

const STR: u32 = 8;
const ARRAY: u32 = 9;
const U16: u32 = 2;

#[test]
fn texts_that_are_not_utf8_are_kept_as_bytes() {
    let gbk = [0xc4, 0xa3, 0xd0, 0xcd];
    let file = gguf(&[
        entry("general.author", STR, &text(&gbk)),
        entry("general.tags", ARRAY, &array(STR, &[text(b"a"), text(&gbk), text(b"")])),
        entry("general.name", STR, &text("né".as_bytes())),
    ])
    .unwrap();
    assert_eq!(file.metadata("general.author"), Some(&MetaValue::Bytes(gbk.to_vec())));
    assert_eq!(file.metadata("general.author").unwrap().as_str(), None);
    match file.metadata("general.tags").unwrap() {
        MetaValue::Array(MetaArray::Bytes(texts)) => {
            assert_eq!(texts.iter().collect::<Vec<_>>(), [&b"a"[..], &gbk, b""]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(file.metadata("general.name").unwrap().as_str(), Some("né"));

    // Written and read again, they are the same.
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata_entries() {
        writer.metadata(key, value.clone()).unwrap();
    }
    writer.tensor("t", DType::F32, &[1]).unwrap();
    let mut data = writer.begin(vec![]).unwrap();
    data.write_tensor("t", [[0; 4]]).unwrap();
    let again = ModelFile::from_bytes("again.gguf", data.finish().unwrap()).unwrap();
    assert!(again.metadata_entries().eq(file.metadata_entries()));
    // Keys are strict: they are looked up.
    let key = [&text(&gbk)[..], &STR.to_le_bytes(), &text(b"x")].concat();
    assert!(gguf(&[key]).unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn arrays_of_arrays_are_passed_over_to_a_bounded_depth() {
    let numbers = array(U16, &[vec![1, 0], vec![2, 0]]);
    let texts = array(STR, &[text(b"x"), text(b"yz")]);
    let nested = |depth: usize| (0..depth).fold(numbers.clone(), |inner, _| array(ARRAY, &[inner]));
    let file = gguf(&[
        entry("a", ARRAY, &array(ARRAY, &[numbers.clone(), texts, array(ARRAY, std::slice::from_ref(&numbers))])),
        entry("b", ARRAY, &nested(8)),
        entry("c", U16, &[7, 0]),
    ])
    .unwrap();
    assert_eq!(file.metadata("a"), Some(&MetaValue::Array(MetaArray::Arrays(3))));
    assert_eq!(file.metadata("c").unwrap().as_u64(), Some(7), "what follows is read");
    assert_eq!(file.metadata("a").unwrap().as_array().unwrap().len(), 3);
    let error = gguf(&[entry("b", ARRAY, &nested(9))]).unwrap_err().to_string();
    assert!(error.contains("metadata b: more than 8 arrays"), "{error}");
    let endless = entry("b", ARRAY, &[&ARRAY.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat());
    assert!(gguf(&[endless]).unwrap_err().to_string().contains("entries are announced"));
    let arrays = MetaValue::Array(MetaArray::Arrays(3));
    assert!(GgufWriter::new().metadata("a", arrays).unwrap_err().to_string().contains("array of arrays"));
}

#[test]
fn empty_and_repeated_keys_and_floods_are_refused_when_they_come() {
    let refused = |entries: &[Vec<u8>]| gguf(entries).unwrap_err().to_string();
    let value = [1, 0];
    let error = refused(&[entry("a", U16, &value), entry("", U16, &value)]);
    assert!(error.contains("metadata entry number 1: it is empty"), "{error}");
    // The type of the third one is unknown; the second one is told.
    let error = refused(&[entry("a", U16, &value), entry("a", U16, &value), entry("b", 77, &value)]);
    assert!(error.contains("metadata key a: it occurs twice"), "{error}");
    let flood: Vec<Vec<u8>> = (0..65_537).map(|n| entry(&format!("key {n}"), U16, &value)).collect();
    let error = refused(&flood);
    assert!(error.contains("the metadata: 65537 entries are announced, but at most 65536 are read"), "{error}");
    assert_eq!(gguf(&flood[..65_536]).unwrap().metadata_entries().len(), 65_536);
}

#[test]
fn an_alignment_that_is_none_is_shown_as_a_number() {
    let error = gguf(&[entry("general.alignment", 4, &24u32.to_le_bytes())]).unwrap_err().to_string();
    assert!(error.contains("metadata general.alignment: 24, but a power of two is needed"), "{error}");
}

/// A safetensors file with this JSON text as its header and `n_bytes` of data.
fn safetensors(header: &str, n_bytes: usize) -> Result<Arc<ModelFile>, FormatError> {
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; n_bytes]].concat();
    ModelFile::from_bytes("m.st", bytes)
}

#[test]
fn safetensors_metadata_may_be_anything() {
    let header = |metadata: &str| {
        format!(r#"{{"__metadata__":{metadata},"t":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#)
    };
    let file = safetensors(
        &header(
            r#"{"steps":1000,"lr":0.5,"tuned":true,"format":"pt","n":null,"x":{"a":[1]},"big":18446744073709551615}"#,
        ),
        8,
    )
    .unwrap();
    let expected = [
        ("big", MetaValue::U64(u64::MAX)),
        ("format", MetaValue::Str("pt".into())),
        ("lr", MetaValue::F64(0.5)),
        ("n", MetaValue::Str("null".into())),
        ("steps", MetaValue::I64(1000)),
        ("tuned", MetaValue::Bool(true)),
        ("x", MetaValue::Str(r#"{"a":[1]}"#.into())),
    ];
    assert!(file.metadata_entries().eq(expected.iter().map(|(key, value)| (*key, value))), "{:?}", file.metadata("x"));
    for (json, n) in [("null", 0), ("{}", 0), ("7", 1), (r#""text""#, 1), ("[1,[2]]", 1)] {
        let file = safetensors(&header(json), 8).unwrap();
        assert_eq!((file.metadata_entries().len(), file.tensors().len()), (n, 1), "{json}");
    }
    let twice = safetensors(&header(r#"{"a":1,"a":2}"#), 8).unwrap_err().to_string();
    assert!(twice.contains("metadata key a: it occurs twice"), "{twice}");
}

#[test]
fn safetensors_of_any_type_are_listed_and_still_checked() {
    let header = |dtype: &str, shape: &str, end: usize| {
        format!(
            r#"{{"s":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}},
            "t":{{"dtype":"F32","shape":[2],"data_offsets":[{end},{}]}}}}"#,
            end + 8
        )
    };
    let types = [("I64", 32), ("U8", 4), ("BOOL", 4), ("F64", 32), ("I32", 16), ("F8_E4M3", 4), ("F4", 2), ("F13", 5)];
    for (dtype, n_bytes) in types {
        let file = safetensors(&header(dtype, "[4]", n_bytes), n_bytes + 8).unwrap();
        let info = file.info("s").unwrap();
        assert_eq!((info.stored.name(), info.n_bytes), (dtype, Some(n_bytes)));
        assert!(file.tensor("s").is_none() && file.tensor("t").is_some());
    }
    let refused = |header: String, n_bytes| safetensors(&header, n_bytes).unwrap_err().to_string();
    let error = refused(header("I64", "[4]", 31), 39);
    assert!(error.contains("tensor s: I64 of shape [4] needs 32 bytes, but its entry sets 31 aside"), "{error}");
    let error = refused(header("F13", "[4]", 5), 12);
    assert!(error.contains("tensor t") && error.contains("cut short"), "{error}");
    let error = refused(header("F13", "[4]", 5).replace("[5,13]", "[6,14]"), 14);
    assert!(error.contains("tensor t: its data is at offsets 6 to 14"), "{error}");
    let error = refused(header("I64", "[4]", 32).replace("\"t\"", "\"s\""), 40);
    assert!(error.contains("tensor s: the file has two tensors of this name"), "{error}");
    let error = refused(header(&"F".repeat(65), "[4]", 4), 12);
    assert!(error.contains("tensor s") && error.contains("65 bytes"), "{error}");
}
