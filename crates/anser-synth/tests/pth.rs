//! The tiny shape as a `.pth` file: the tensors of its GGUF twin under BlinkDL's names; and Python's own reader of archives.

use std::io::Cursor;
use std::process::Command;

use anser_format::quant::dequantize;
use anser_format::{DType, ModelFile, Tensor};
use anser_synth::{FileType, Synth, SynthError};

fn synth(file_type: FileType) -> Synth {
    Synth { shape: "tiny".parse().unwrap(), file_type, seed: 7, sparsity: None }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    let mut numbers = vec![0.0; tensor.shape().iter().product()];
    dequantize(tensor.dtype(), tensor.bytes(), &mut numbers);
    numbers
}

#[test]
fn it_has_the_numbers_of_the_gguf_file() {
    let bytes = synth(FileType::F16).write_pth(Cursor::new(vec![]), |_, _| {}).unwrap().into_inner();
    let pth = ModelFile::from_bytes("m.pth", bytes).unwrap();
    let gguf = ModelFile::from_bytes("m.gguf", synth(FileType::F16).write(vec![], |_, _| {}).unwrap()).unwrap();
    let find = |file: &std::sync::Arc<ModelFile>, name: &str| file.tensor(name).unwrap_or_else(|| panic!("{name}"));
    let pairs: [(&str, &str, &[usize]); 9] = [
        ("emb.weight", "token_embd.weight", &[65_536, 256]),
        ("head.weight", "output.weight", &[65_536, 256]),
        ("blocks.0.ln0.bias", "token_embd_norm.bias", &[256]),
        ("blocks.1.ln2.weight", "blk.1.attn_norm_2.weight", &[256]),
        ("blocks.2.att.ln_x.bias", "blk.2.time_mix_ln.bias", &[256]),
        ("blocks.2.att.receptance.weight", "blk.2.time_mix_receptance.weight", &[256, 256]),
        ("blocks.2.att.r_k", "blk.2.time_mix_r_k.weight", &[4, 64]),
        ("blocks.1.ffn.key.weight", "blk.1.channel_mix_key.weight", &[1024, 256]),
        ("blocks.1.ffn.x_k", "blk.1.channel_mix_lerp_k.weight", &[1, 1, 256]),
    ];
    for (blink, name, shape) in pairs {
        let (a, b) = (find(&pth, blink), find(&gguf, name));
        assert_eq!((a.dtype(), a.shape()), (DType::F16, shape), "{blink}");
        assert!(numbers(&a) == numbers(&b), "{blink}");
    }
    for (which, rank) in [("w", 32), ("a", 32), ("v", 32), ("g", 64)] {
        for (i, shape) in [(1, [256, rank]), (2, [rank, 256])] {
            let low_rank = find(&pth, &format!("blocks.1.att.{which}{i}"));
            assert_eq!(low_rank.shape(), shape, "{which}{i}");
            let expected = find(&gguf, &format!("blk.1.time_mix_{which}{i}.weight"));
            assert!(numbers(&low_rank.transposed().unwrap()) == numbers(&expected), "{which}{i}");
        }
    }
    let mixes = numbers(&find(&gguf, "blk.1.time_mix_lerp_fused.weight"));
    for (row, mix) in ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g"].into_iter().enumerate() {
        assert!(numbers(&find(&pth, &format!("blocks.1.att.{mix}"))) == mixes[row * 256..][..256], "{mix}");
    }
    assert!(pth.info("blocks.0.att.v1").is_none());
    assert_eq!(pth.tensors().len(), 2 + 4 + 3 * 33 - 3);
}

/// Python reads every entry and compares checksums.
#[test]
fn the_archive_is_one_for_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pth");
    synth(FileType::F16).write_pth(std::fs::File::create(&path).unwrap(), |_, _| {}).unwrap();
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(z.testzip(), len(z.namelist()))";
    let output = Command::new("python3").args(["-c", script]).arg(&path).output().expect("python3 reads the archive");
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(found.trim(), format!("None {}", 102 + 3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn quantized_types_are_refused() {
    let refused = synth(FileType::Q8_0).write_pth(Cursor::new(vec![]), |_, _| {});
    assert!(matches!(refused, Err(SynthError::PthType(FileType::Q8_0))));
}
