use secateur::Model;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let exact = std::env::var("EXACT").is_ok();
    let model = Model::open(args[1].as_ref(), &Default::default()).unwrap();
    let mut keeps = secateur::group::Keeps::new();
    for (id, g) in model.groups().iter() {
        if !g.kind.is_default() && std::env::var("ALL").is_err() || (exact && !g.is_exact()) {
            continue;
        }
        let keep: Vec<u32> = (0..g.size as u32).filter(|i| (i * 7 + 3) % 5 < 3).collect();
        if keep.is_empty() || keep.len() == g.size {
            continue;
        }
        keeps.insert(id, keep);
    }
    let plan = model.plan(&keeps).unwrap();
    plan.write("/tmp/plan.json".as_ref()).unwrap();
    model.replay(&plan).unwrap();
    model.write_pruned(&keeps, args[2].as_ref(), &mut |_| ()).unwrap();
    model.write_masked(&keeps, args[3].as_ref(), &mut |_| ()).unwrap();
    println!("{} groups cut, {} literals", keeps.len(), plan.nodes.len());
}
