//! NumPy's .npy format, version 1.0: a magic number, a Python dictionary that names type and shape, the numbers.

use std::io::{self, Write};

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
/// The offset of the numbers is a multiple of this.
const ALIGNMENT: usize = 64;

/// Writes `data` as a little-endian f32 array of `shape`, row-major.
pub(crate) fn write(out: &mut dyn Write, data: &[f32], shape: &[usize]) -> io::Result<()> {
    let dimensions: String = shape.iter().map(|n| format!("{n},")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dimensions}), }}");
    let n_unpadded = MAGIC.len() + 2 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', n_unpadded.next_multiple_of(ALIGNMENT) - n_unpadded));
    header.push('\n');
    // With two numbers of at most 20 digits the header is far shorter than the 65,535 bytes that its length field can
    // express.
    let n_header = (header.len() as u16).to_le_bytes();
    out.write_all(&[MAGIC, &n_header, header.as_bytes()].concat())?;
    data.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::write;

    #[test]
    fn layout_is_that_of_the_format_specification() {
        let mut bytes = vec![];
        write(&mut bytes, &[1.0, -2.5, 0.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let n_header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + n_header) % 64, 0);
        let header = std::str::from_utf8(&bytes[10..10 + n_header]).unwrap();
        assert_eq!(header.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (2,3,), }");
        assert!(header.ends_with('\n'));
        assert_eq!(bytes.len(), 10 + n_header + 24);
        assert_eq!(&bytes[10 + n_header..][..8], &[0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
    }
}
