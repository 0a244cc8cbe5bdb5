use secateur::{Model, why};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let m = Model::open(args[1].as_ref(), &Default::default()).unwrap();
    let find = |s: &str| {
        let (n, a) = s.rsplit_once(':').unwrap();
        (m.graph().param_ids().find(|&p| m.graph().param(p).name == n).unwrap(), a.parse().unwrap())
    };
    print!("{}", why::explain(&m, find(&args[2])));
    if let Some(b) = args.get(3) {
        if let Some(t) = why::tie(&m, find(&args[2]), find(b)) {
            print!("{t}");
        } else {
            println!("independent");
        }
    }
}
