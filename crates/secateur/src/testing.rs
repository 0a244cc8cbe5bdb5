//! Small ONNX models made in memory, for tests of what stands behind the reader.

use std::path::Path;

use prost::Message;

use crate::analysis::Analysis;
use crate::cost::Cost;
use crate::graph::Graph;
use crate::group::{Group, GroupId, Groups};
use crate::onnx::proto::{
    self, AttributeProto, Dimension, Extent, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::onnx::{Hints, Imported, OnnxFile, StoredWeights, import};

/// A model in the making. Weights are random, from their name.
#[derive(Default)]
pub(crate) struct Builder {
    graph: GraphProto,
}

impl Builder {
    pub(crate) fn input(mut self, name: &str, dims: &[i64]) -> Self {
        self.graph.input.push(info(name, dims));
        self
    }

    pub(crate) fn output(mut self, name: &str, dims: &[i64]) -> Self {
        self.graph.output.push(info(name, dims));
        self
    }

    pub(crate) fn weight(self, name: &str, dims: &[i64]) -> Self {
        let count = dims.iter().product::<i64>() as usize;
        let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
        let mut rng = fastrand::Rng::with_seed(seed);
        let values: Vec<f32> = (0..count).map(|_| rng.f32() - 0.5).collect();
        self.floats(name, dims, &values)
    }

    pub(crate) fn floats(self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(name, dims, proto::FLOAT, data)
    }

    pub(crate) fn ints(self, name: &str, values: &[i64]) -> Self {
        const INT64: i32 = 7;
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(name, &[values.len() as i64], INT64, data)
    }

    pub(crate) fn raw(mut self, name: &str, dims: &[i64], data_type: i32, data: Vec<u8>) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.to_string(),
            dims: dims.to_vec(),
            data_type,
            raw_data: Some(data.into()),
            ..Default::default()
        });
        self
    }

    /// A node that is named after its output; attributes are integers.
    pub(crate) fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, &[i64])],
    ) -> Self {
        let attribute = |&(name, ints): &(&str, &[i64])| match name.strip_prefix('#') {
            Some(name) => AttributeProto {
                name: name.to_string(),
                i: ints.first().copied(),
                r#type: 2,
                ..Default::default()
            },
            None => AttributeProto {
                name: name.to_string(),
                ints: ints.to_vec(),
                r#type: 7,
                ..Default::default()
            },
        };
        self.graph.node.push(NodeProto {
            name: output.to_string(),
            op_type: op.to_string(),
            input: inputs.iter().map(|name| name.to_string()).collect(),
            output: output.split(' ').map(str::to_string).collect(),
            attribute: attributes.iter().map(attribute).collect(),
            ..Default::default()
        });
        self
    }

    pub(crate) fn open(self) -> Opened {
        let opset = OperatorSetIdProto { version: 20, ..Default::default() };
        let model = ModelProto {
            ir_version: Some(9),
            opset_import: vec![opset],
            graph: Some(self.graph),
            ..Default::default()
        };
        let bytes = model.encode_to_vec().into();
        let file = OnnxFile::parse(bytes, Path::new("test.onnx")).unwrap();
        Opened::new(file)
    }
}

fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&value: &i64| Dimension { extent: Some(Extent::Value(value)) };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TensorTypeProto { elem_type: proto::FLOAT, shape: Some(shape) };
    ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// A model that was read and analyzed.
pub(crate) struct Opened {
    pub(crate) file: OnnxFile,
    pub(crate) imported: Imported,
    pub(crate) groups: Groups,
    pub(crate) cost: Cost,
}

impl Opened {
    pub(crate) fn new(file: OnnxFile) -> Self {
        let imported = import(&file, &Hints::default()).unwrap();
        let analysis = Analysis::new(&imported.graph);
        let groups = Groups::new(&imported.graph, &analysis);
        let cost = Cost::new(&imported.graph, &analysis, &groups);
        Opened { file, imported, groups, cost }
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.imported.graph
    }

    pub(crate) fn weights(&self) -> StoredWeights<'_> {
        StoredWeights { file: &self.file, tensors: &self.imported.tensors, graph: self.graph() }
    }

    pub(crate) fn group(&self, name: &str) -> (GroupId, &Group) {
        let names: Vec<_> = self.groups.iter().map(|(_, group)| &group.name).collect();
        let found = self.groups.iter().find(|(_, group)| group.name == name);
        found.unwrap_or_else(|| panic!("no group `{name}` in {names:?}"))
    }
}
