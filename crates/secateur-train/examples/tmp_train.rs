use secateur_train::trainer::*;
use secateur_train::{Cpu, Value};
use std::path::Path;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let model = secateur::Model::open(Path::new(&args[1]), &Default::default()).unwrap();
    let dims: Vec<usize> = args[2].split('x').map(|d| d.parse().unwrap()).collect();
    let classes: i64 = args[3].parse().unwrap();
    let steps: usize = args[4].parse().unwrap();
    let device = Default::default();
    let mut t = Trainer::<Cpu>::new(model, TrainOptions::default(), &device).unwrap();
    let n: usize = dims.iter().product();
    let mut s = 12345u64;
    let x: Vec<f32> = (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            (s % 1000) as f32 / 500.0 - 1.0
        })
        .collect();
    let y: Vec<i64> = (0..dims[0] as i64).map(|i| i % classes).collect();
    let mut best = f64::MAX;
    for i in 0..steps {
        let batch = (
            vec![Value::of_floats(x.clone(), dims.clone(), &device)],
            Value::of_ints(y.clone(), vec![dims[0]], &device),
        );
        let start = std::time::Instant::now();
        let r = t.step(batch, 0.01).unwrap();
        let e = start.elapsed().as_secs_f64();
        best = best.min(e);
        println!("{i} loss {:.4} {:?} {:.1} ms", r.loss, r.hits, e * 1e3);
    }
    let batch = (
        vec![Value::of_floats(x.clone(), dims.clone(), &device)],
        Value::of_ints(y.clone(), vec![dims[0]], &device),
    );
    let start = std::time::Instant::now();
    t.evaluate(batch).unwrap();
    println!(
        "best step {:.1} ms, forward {:.1} ms",
        best * 1e3,
        start.elapsed().as_secs_f64() * 1e3
    );
}
