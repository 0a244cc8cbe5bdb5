//! The order in which the nodes of a graph can run.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::proto::{GraphProto, NodeProto, node_name};
use crate::{Error, Result};

/// The nodes in an order in which each comes after those that it reads; of several such orders, the
/// one nearest to the file's. `is_stored` tells the names of inputs and stored tensors, `is_outside`
/// those that are made around the graph.
///
/// # Errors
/// When a name is defined twice or by nothing, and when nodes read each other in a circle.
pub fn order(
    nodes: &[NodeProto],
    is_stored: impl Fn(&str) -> bool,
    is_outside: impl Fn(&str) -> bool,
) -> Result<Vec<u32>> {
    let mut maker: HashMap<&str, u32> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if is_stored(name) || maker.insert(name, index as u32).is_some() {
                return Err(Error::malformed(format!("the name `{name}` is defined twice")));
            }
        }
    }
    let mut readers: Vec<Vec<u32>> = vec![Vec::new(); nodes.len()];
    // Per node: how many of the names that it reads are not made yet.
    let mut waiting: Vec<usize> = vec![0; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let mut inside = Vec::new();
        captured(node, &mut inside);
        let direct = node.input.len();
        for (position, name) in node.input.iter().chain(inside).enumerate() {
            match maker.get(name) {
                Some(&made) => {
                    readers[made as usize].push(index as u32);
                    waiting[index] += 1;
                }
                None if position < direct
                    && !name.is_empty()
                    && !is_stored(name)
                    && !is_outside(name) =>
                {
                    let reader = node_name(node);
                    let text = format!("node `{reader}` reads `{name}`, which nothing makes");
                    return Err(Error::malformed(text));
                }
                None => {}
            }
        }
    }
    let mut ready: BTreeSet<u32> =
        (0..nodes.len() as u32).filter(|&index| waiting[index as usize] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &reader in &readers[index as usize] {
            waiting[reader as usize] -= 1;
            if waiting[reader as usize] == 0 {
                ready.insert(reader);
            }
        }
    }
    if order.len() < nodes.len() {
        let name = node_name(&nodes[on_cycle(&readers, &waiting)]);
        return Err(Error::malformed(format!("node `{name}` is part of a cycle")));
    }
    Ok(order)
}

/// A node of a cycle, where some nodes wait: each for another one that waits.
fn on_cycle(readers: &[Vec<u32>], waiting: &[usize]) -> usize {
    let stuck = || (0..waiting.len()).filter(|&index| waiting[index] > 0);
    let mut before = vec![0; waiting.len()];
    for index in stuck() {
        readers[index].iter().for_each(|&reader| before[reader as usize] = index);
    }
    let first = stuck().next().unwrap_or(0);
    stuck().fold(first, |index, _| before[index])
}

/// Names that the graphs inside a node read from around them.
pub(super) fn captured<'a>(node: &'a NodeProto, names: &mut Vec<&'a str>) {
    for attribute in &node.attribute {
        let graphs = attribute.g.as_deref().into_iter().chain(&attribute.graphs);
        graphs.for_each(|graph| read_outside(graph, names));
    }
}

fn read_outside<'a>(graph: &'a GraphProto, names: &mut Vec<&'a str>) {
    let mut read: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    for node in &graph.node {
        read.extend(node.input.iter());
        captured(node, &mut read);
    }
    let stored = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    let mut own: HashSet<&str> = stored.chain(sparse.map(|tensor| tensor.name.as_str())).collect();
    own.extend(graph.input.iter().map(|input| input.name.as_str()));
    own.extend(graph.node.iter().flat_map(|node| node.output.iter()));
    names.extend(read.into_iter().filter(|name| !name.is_empty() && !own.contains(name)));
}
