//! Names of parameter axes, as `PARAM:AXIS`.

use secateur::graph::{Graph, ParamId};
use secateur::{Error, Result};

/// Finds a parameter axis. Names may hold colons: the last one divides. The name of a group, which
/// may end in `#K`, names the axis that it is in.
pub fn find(graph: &Graph, text: &str) -> Result<(ParamId, usize)> {
    if by_name(graph, text).is_some() {
        let error = Error::argument(format!("`{text}` is a parameter, and names no axis of it"));
        return Err(error.hint(format!("add the axis: `{text}:0`")));
    }
    let (name, axis) = text.rsplit_once(':').unwrap_or((text, "0"));
    let param = by_name(graph, name).ok_or_else(|| {
        let error = Error::argument(format!("the model has no parameter `{name}`"));
        match nearest(graph, name).as_slice() {
            [] => error,
            names => error.hint(format!("did you mean `{}`?", names.join("`, `"))),
        }
    })?;
    let shape = &graph.param(param).shape;
    let number = axis.split_once('#').map_or(axis, |(axis, _)| axis).parse();
    number.ok().filter(|&axis: &usize| axis < shape.len()).map(|axis| (param, axis)).ok_or_else(
        || {
            let text = format!("parameter `{name}` has no axis `{axis}`: its shape is {shape:?}");
            Error::argument(text).hint(match shape.len() {
                0 => "name a parameter that is no scalar".to_string(),
                1 => "its only axis is 0".to_string(),
                rank => format!("name an axis from 0 to {}", rank - 1),
            })
        },
    )
}

fn by_name(graph: &Graph, name: &str) -> Option<ParamId> {
    let named = |of: fn(&secateur::graph::Param) -> &str| {
        graph.param_ids().find(|&id| of(graph.param(id)) == name)
    };
    named(|param| &param.name).or_else(|| named(|param| &param.label))
}

/// The three most similar names: first those that hold what was asked for.
fn nearest<'g>(graph: &'g Graph, name: &str) -> Vec<&'g str> {
    let distance = |other: &str| {
        let holds = !name.is_empty() && other.contains(name);
        (!holds, strsim::damerau_levenshtein(name, other))
    };
    let params = graph.params.iter().filter(|param| !param.shape.is_empty());
    let names = params.flat_map(|param| [param.name.as_str(), param.label.as_str()]);
    let mut names: Vec<_> = names.map(|name| (distance(name), name)).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().take(3).map(|(_, name)| name).collect()
}
