//! Damaged files are errors, or other data: never a panic, never more memory than they are long.

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::*;

/// A small valid file of each format, with its name.
fn originals() -> Vec<(&'static str, Vec<u8>)> {
    let files = Files::new();
    let npz = files.path("a.npz");
    let x = Array::Float(vec![0.5; 6], vec![3, 2]);
    write_npz(&npz, &[("x".into(), x), ("y".into(), Array::Int(vec![0, 1, 1], vec![3]))]).unwrap();
    let npz = fs::read(npz).unwrap();
    let start = npz.windows(6).position(|word| word == b"\x93NUMPY").unwrap();
    let npy = npz[start..start + 128 + 24].to_vec();
    let png = files.path("1.png");
    image::RgbImage::from_pixel(5, 4, image::Rgb([1, 2, 3])).save(&png).unwrap();
    let view = TensorView::new(Dtype::F16, vec![2, 3], &[0; 12]).unwrap();
    vec![
        ("a.npz", npz),
        ("a.npy", npy),
        ("a.safetensors", serialize([("x", view)], None).unwrap()),
        ("images-idx3", [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1][..], &[9; 4]].concat()),
        ("a.csv", b"a,b,c\n1,2,x\n3,\"4\",y\n".to_vec()),
        ("pictures/1.png", fs::read(png).unwrap()),
    ]
}

fn read_all(files: &Files, name: &str) {
    let path = files.path(name.split('/').next().unwrap());
    if let Ok(dataset) = open(&path, &DataOptions::default()) {
        assert!(dataset.len() < 1000);
        drop(dataset.batch(&(0..dataset.len()).collect::<Vec<_>>(), Some(1)));
    }
}

#[test]
fn the_originals_are_read() {
    let files = Files::new();
    for (name, bytes) in originals() {
        files.write(name, bytes);
        let path = files.path(name.split('/').next().unwrap());
        whole(&open(&path, &DataOptions::default()).unwrap());
    }
}

proptest! {
    #[test]
    fn damage_is_survived(
        which in 0..6_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let (name, mut bytes) = originals().swap_remove(which);
        for (at, value) in changes {
            *at.get_mut(&mut bytes) = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let files = Files::new();
        files.write(name, bytes);
        read_all(&files, name);
    }
}
