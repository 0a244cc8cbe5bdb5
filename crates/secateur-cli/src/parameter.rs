//! Names of parameter axes, as `PARAM:AXIS`.

use secateur::graph::{Graph, ParamId};
use secateur::{Error, Result};

/// Finds a parameter axis. Names may hold colons: the last one divides. The name of a group, which
/// may end in `#K`, names the axis that it is in.
pub fn find(graph: &Graph, text: &str) -> Result<(ParamId, usize)> {
    let parts = text.rsplit_once(':').and_then(|(name, axis)| {
        let axis = axis.split_once('#').map_or(axis, |(axis, _)| axis);
        Some((name, axis.parse::<usize>().ok()?))
    });
    let Some((name, axis)) = parts else {
        let error = Error::argument(format!("`{text}` names no axis of a parameter"));
        return Err(error.hint(match by_name(graph, text) {
            Some(_) => format!("add the axis: `{text}:0`"),
            None => {
                format!("write PARAM:AXIS, such as `{}:0`", nearest(graph, text).join(":0`, `"))
            }
        }));
    };
    let Some(param) = by_name(graph, name) else {
        let names = nearest(graph, name);
        let error = Error::argument(format!("the model has no parameter `{name}`"));
        return Err(match names.is_empty() {
            true => error,
            false => error.hint(format!("did you mean `{}`?", names.join("`, `"))),
        });
    };
    let rank = graph.param(param).shape.len();
    if axis >= rank {
        let shape = &graph.param(param).shape;
        let error = format!("parameter `{name}` has no axis {axis}: its shape is {shape:?}");
        return Err(Error::argument(error).hint(match rank {
            0 => "name a parameter that is no scalar".to_string(),
            _ => format!("name an axis from 0 to {}", rank - 1),
        }));
    }
    Ok((param, axis))
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
