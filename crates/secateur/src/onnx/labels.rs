//! Names that users know for weights that an exporter renamed: `val_12`, `onnx::MatMul_565`.
//!
//! PyTorch's exporters record where a node came from: `torch.onnx.export(dynamo=True)` in the
//! metadata `pkg.torch.onnx.name_scopes` and `pkg.torch.onnx.fx_node`, the older one in the node's
//! name, `/encoder/layer.0/query/MatMul`.

use std::collections::{BTreeSet, HashMap};

use super::OnnxFile;
use super::proto::NodeProto;
use crate::graph::Graph;

#[cfg(test)]
mod tests;

/// Gives made-up names a label.
pub(super) fn add_labels(file: &OnnxFile, graph: &mut Graph) {
    let mut reader: HashMap<&str, &NodeProto> = HashMap::new();
    for node in &file.graph().node {
        for name in node.input.iter() {
            reader.entry(name).or_insert(node);
        }
    }
    let mut taken: BTreeSet<String> = graph.params.iter().map(|p| p.name.clone()).collect();
    for param in &mut graph.params {
        let base = param.name.split('@').next().unwrap_or_default();
        if !is_made_up(base) {
            continue;
        }
        let label =
            reader.get(base).and_then(|node| from_metadata(node).or_else(|| from_name(node)));
        let Some(label) = label.filter(|label| taken.insert(label.clone())) else { continue };
        param.label = label;
    }
}

/// Whether a name is an exporter's: a prefix of its own and a number.
fn is_made_up(name: &str) -> bool {
    let number = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    name.strip_prefix("val_").is_some_and(number)
        || name.starts_with("onnx::")
        || name.starts_with("/")
        || name.starts_with("_val_")
        || number(name)
}

/// The innermost module and, where the traced call names it, the parameter.
fn from_metadata(node: &NodeProto) -> Option<String> {
    let get = |key: &str| {
        let entry = node.metadata_props.iter().find(|entry| entry.key == key)?;
        std::str::from_utf8(&entry.value).ok()
    };
    let scopes = get("pkg.torch.onnx.name_scopes")?;
    let scopes: Vec<&str> = scopes.split('\'').skip(1).step_by(2).collect();
    let module = scopes.iter().rev().nth(1).filter(|module| !module.is_empty())?;
    let prefix = format!("%p_{}_", module.replace('.', "_"));
    let call = get("pkg.torch.onnx.fx_node").unwrap_or_default();
    let parameters = call.split([',', '(', ')', ' ']).filter_map(|arg| arg.strip_prefix(&prefix));
    let name = parameters.into_iter().find(|name| name.contains("weight")).unwrap_or("weight");
    Some(format!("{module}.{name}"))
}

/// `/encoder/layers/mlp/mlp.0/MatMul` is read by the module `encoder.layers.mlp.0`.
fn from_name(node: &NodeProto) -> Option<String> {
    let path: Vec<&str> = node.name.strip_prefix('/')?.split('/').collect();
    let (_, modules) = path.split_last()?;
    let mut parts: Vec<&str> = Vec::new();
    for module in modules {
        if parts
            .last()
            .is_some_and(|last| module.strip_prefix(last).is_some_and(|m| m.starts_with('.')))
        {
            parts.pop();
        }
        parts.push(module);
    }
    (!parts.is_empty()).then(|| format!("{}.weight", parts.join(".")))
}
