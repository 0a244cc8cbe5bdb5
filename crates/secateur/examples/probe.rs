use secateur::{analysis::Analysis, group::Groups, onnx};
fn main() {
    for path in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        let file = onnx::OnnxFile::open(path.as_ref()).unwrap();
        let imported = match onnx::import(&file, &Default::default()) {
            Ok(i) => i,
            Err(e) => {
                println!("{path}: ERROR {e} {:?}", e.remedy());
                continue;
            }
        };
        let t1 = t.elapsed();
        let g = &imported.graph;
        let a = Analysis::new(g);
        let groups = Groups::new(g, &a);
        let t2 = t.elapsed();
        let total: usize = g.params.iter().filter(|p| p.dtype.is_float()).map(|p| p.len()).sum();
        let mut cov = std::collections::BTreeSet::new();
        for (_, gr) in groups.iter() {
            for s in &gr.slices {
                cov.insert(s.param);
            }
        }
        let c: usize = cov.iter().map(|&p| g.param(p).len()).sum();
        let exact = groups.iter().filter(|(_, g)| g.is_exact()).count();
        println!(
            "{}: nodes {} params {} groups {} exact {} cov {:.2}% import {:?} all {:?}",
            path.rsplit('/').next().unwrap(),
            g.nodes.len(),
            total,
            groups.len(),
            exact,
            100.0 * c as f64 / total as f64,
            t1,
            t2
        );
        for w in &g.warnings {
            println!("   W {w}");
        }
        if std::env::var("V").is_ok() {
            for (_, gr) in groups.iter() {
                println!(
                    "   {} {} {} exact={} slices={} {:?}",
                    gr.name,
                    gr.size,
                    gr.kind,
                    gr.is_exact(),
                    gr.slices.len(),
                    gr.couplings.first().map(|c| (&g.node(c.node).name, c.reason))
                );
            }
        }
        if std::env::var("U").is_ok() {
            for p in g.param_ids() {
                if !cov.contains(&p) && g.param(p).len() > total / 1000 {
                    let pr = g.param(p);
                    println!("   uncovered {} {:?}", pr.name, pr.shape);
                    for &ax in a.value(pr.value) {
                        for at in a.axes.atoms(ax) {
                            let pin = a.axes.pinned(at);
                            println!(
                                "       {:?} {:?} at {:?}",
                                a.axes.size(at),
                                pin.map(|p| p.reason),
                                pin.and_then(|p| g
                                    .nodes
                                    .get(p.cause.0 as usize)
                                    .map(|n| (&n.name, &n.kind)))
                            );
                        }
                    }
                }
            }
        }
    }
}
