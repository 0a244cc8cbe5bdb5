//! What programs compute, one file per family: what it carries, how ONNX spells it, and how it runs.

pub mod adaptive;
pub mod advanced;
pub mod attention;
pub mod control;
pub mod conv;
pub mod count;
pub mod det;
pub mod dropout;
pub mod elementwise;
pub mod fused;
pub mod index;
pub mod make;
pub mod matmul;
pub mod norm;
pub mod order;
pub mod packed;
pub mod part;
pub mod place;
pub mod pool;
pub mod quantize;
pub mod quantized;
pub mod random;
pub mod recurrent;
pub mod reduce;
pub mod region;
pub mod resize;
pub mod rotary;
pub mod sample;
pub mod scaled;
pub mod shape;
pub mod signal;
pub mod view;

use crate::onnx::Node;
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// The operands of a step.
#[derive(Debug)]
pub struct Inputs<B: Engine> {
    values: Vec<Option<Value<B>>>,
}

impl<B: Engine> Inputs<B> {
    /// Operands in order; `None` for an omitted one.
    pub fn new(values: Vec<Option<Value<B>>>) -> Self {
        Self { values }
    }

    /// Number of operands, omitted ones counted.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether operand `index` is given.
    pub fn has(&self, index: usize) -> bool {
        self.values.get(index).is_some_and(Option::is_some)
    }

    /// Operand `index`; each can be taken once.
    ///
    /// # Errors
    /// When it is omitted.
    pub fn take(&mut self, index: usize) -> Result<Value<B>> {
        self.optional(index).ok_or_else(|| Error::malformed(format!("operand {index} is missing")))
    }

    /// Operand `index`, if it is given.
    pub fn optional(&mut self, index: usize) -> Option<Value<B>> {
        self.values.get_mut(index)?.take()
    }

    /// A look at operand `index`, if it is given and not yet taken.
    pub fn get(&self, index: usize) -> Option<&Value<B>> {
        self.values.get(index)?.as_ref()
    }

    /// Operand `index` as real numbers.
    pub(crate) fn real(&mut self, index: usize) -> Result<Real<B>> {
        self.take(index)?.float().map(Real)
    }

    /// Operand `index` as real numbers, if it is given.
    pub(crate) fn optional_real(&mut self, index: usize) -> Result<Option<Real<B>>> {
        self.optional(index).map(|value| value.float().map(Real)).transpose()
    }

    /// Operand `index` as a list of integers.
    ///
    /// # Errors
    /// When it is omitted or cannot be read.
    pub fn ints(&mut self, index: usize) -> Result<Vec<i64>> {
        self.take(index)?.to_ints()
    }

    /// All operands that are given and not yet taken.
    pub fn rest(self) -> Vec<Value<B>> {
        self.values.into_iter().flatten().collect()
    }
}

/// What every operator family provides.
pub trait Operator {
    /// The results.
    ///
    /// # Errors
    /// When operands do not fit.
    fn run<B: Engine>(&self, cx: &mut Context<B>, inputs: Inputs<B>) -> Result<Vec<Value<B>>>;
}

/// Decodes a node of an ONNX file.
pub(crate) type Decode = fn(&Node<'_>) -> Result<Op>;

macro_rules! operators {
    ($($(#[$doc:meta])* $name:ident($payload:ty)),* $(,)?) => {
        /// An operator with its payload.
        #[derive(Clone, Debug)]
        pub enum Op {
            $($(#[$doc])* $name($payload),)*
        }

        impl Op {
            /// The results.
            ///
            /// # Errors
            /// When operands do not fit.
            pub fn run<B: Engine>(
                &self,
                cx: &mut Context<B>,
                inputs: Inputs<B>,
            ) -> Result<Vec<Value<B>>> {
                match self {
                    $(Op::$name(payload) => payload.run(cx, inputs),)*
                }
            }
        }

        $(impl From<$payload> for Op {
            fn from(payload: $payload) -> Self {
                Op::$name(payload)
            }
        })*
    };
}

operators! {
    /// A function of one tensor, element by element.
    Unary(elementwise::Unary),
    /// A function of two or more tensors, element by element, with broadcasting.
    Binary(elementwise::Binary),
    /// One of two tensors, element by element.
    Where(elementwise::Where),
    /// Bounds.
    Clip(elementwise::Clip),
    /// Another element type.
    Cast(elementwise::Cast),
    /// Units that are dropped in training.
    Dropout(elementwise::Dropout),
    /// Convolution.
    Conv(conv::Conv),
    /// Pooling over windows.
    Pool(pool::Pool),
    /// A product of matrices.
    MatMul(matmul::MatMul),
    /// A product with terms and factors.
    Gemm(matmul::Gemm),
    /// A product by Einstein's notation.
    Einsum(matmul::Einsum),
    /// A product of rows with the matrices of their groups.
    GroupedProduct(matmul::GroupedProduct),
    /// Normalization by stored or batch statistics.
    BatchNorm(norm::BatchNorm),
    /// Normalization by each sample's own statistics.
    Norm(norm::Norm),
    /// Normalization across neighboring channels.
    Lrn(norm::Lrn),
    /// Reduction of axes.
    Reduce(reduce::Reduce),
    /// The position of an extreme.
    Arg(reduce::Arg),
    /// Shares along an axis.
    Softmax(reduce::Softmax),
    /// Running sums.
    CumSum(reduce::CumSum),
    /// The largest or smallest elements.
    TopK(reduce::TopK),
    /// The same elements in another shape.
    Reshape(shape::Reshape),
    /// Axes in another order.
    Transpose(shape::Transpose),
    /// Broadcasting to a shape.
    Expand(shape::Expand),
    /// Repetition of whole axes.
    Tile(shape::Tile),
    /// Segments laid end to end.
    Concat(shape::Concat),
    /// Segments taken apart.
    Split(shape::Split),
    /// Parts of axes.
    Slice(shape::Slice),
    /// Borders.
    Pad(shape::Pad),
    /// Blocks of space to channels, or back.
    Blocks(shape::Blocks),
    /// The sizes of a tensor.
    Shape(shape::Shape),
    /// A tensor of one number, or numbers counted up.
    Fill(shape::Fill),
    /// Rows picked by index.
    Gather(index::Gather),
    /// Elements picked or put by index.
    Pick(index::Pick),
    /// One row per index.
    OneHot(index::OneHot),
    /// The places that are not zero.
    NonZero(index::NonZero),
    /// A triangle of a matrix.
    Trilu(index::Trilu),
    /// Interpolation.
    Resize(resize::Resize),
    /// One of two graphs.
    If(control::If),
    /// A graph that runs again and again.
    Loop(control::Loop),
    /// A graph that runs once per position of an axis.
    Scan(control::Scan),
    /// A recurrent layer.
    Recurrent(recurrent::Recurrent),
    /// Attention.
    Attention(attention::Attention),
    /// Attention with a projection inside.
    FusedAttention(attention::contrib::FusedAttention),
    /// Attention over many heads.
    MultiHead(attention::contrib::MultiHead),
    /// Attention over grouped heads.
    GroupQuery(attention::contrib::GroupQuery),
    /// Features that are turned by position.
    Rotary(rotary::Rotary),
    /// A function of a sum.
    Biased(fused::Biased),
    /// A norm of a sum.
    SkipNorm(fused::SkipNorm),
    /// A norm of a sum of rows.
    EmbedNorm(fused::EmbedNorm),
    /// A product of transposed matrices.
    FusedMatMul(fused::FusedMatMul),
    /// An operator and a function.
    Activated(fused::Activated),
    /// A product with packed weights.
    PackedMatMul(packed::PackedMatMul),
    /// Real numbers to integers.
    Quantize(quantize::Quantize),
    /// Integers to real numbers.
    Dequantize(quantize::Dequantize),
    /// Real numbers to bytes that fit them.
    DynamicQuantize(quantize::DynamicQuantize),
    /// A product of integers.
    IntegerProduct(quantize::IntegerProduct),
    /// An operator between integers.
    Between(quantized::Between),
    /// Images read at the places of a grid.
    GridSample(sample::GridSample),
    /// A grid by matrices.
    AffineGrid(sample::AffineGrid),
    /// Regions read between elements.
    RoiAlign(region::RoiAlign),
    /// The largest elements of regions.
    MaxRoiPool(region::MaxRoiPool),
    /// Positions where something holds.
    Compress(count::Compress),
    /// Numbers of elements in bins.
    Histogram(count::Histogram),
    /// Slices without repetition.
    Unique(count::Unique),
    /// Boxes that do not overlap.
    NonMaxSuppression(count::NonMaxSuppression),
    /// Windows added up in an image.
    Col2Im(place::Col2Im),
    /// Maxima put back.
    MaxUnpool(place::MaxUnpool),
    /// Sequences in reverse.
    ReverseSequence(place::ReverseSequence),
    /// New steps in a cache.
    TensorScatter(place::TensorScatter),
    /// Determinants.
    Det(det::Det),
    /// A Fourier transform.
    Dft(signal::Dft),
    /// Fourier transforms of frames.
    Stft(signal::Stft),
    /// A window for frames.
    Cosines(signal::Cosines),
    /// From frequencies to the mel scale.
    MelWeights(signal::MelWeights),
    /// Random numbers.
    Random(random::Random),
    /// Ones by chance.
    Bernoulli(random::Bernoulli),
    /// Classes by chance.
    Multinomial(random::Multinomial),
    /// A convolution whose places are computed.
    DeformConv(conv::DeformConv),
    /// A part of the middle, or borders around it.
    CenterCropPad(shape::CenterCropPad),
    /// A one at every largest element.
    Hardmax(reduce::Hardmax),
    /// A norm along axes.
    Along(norm::Along),
    /// Bits of integers.
    Bits(elementwise::Bits),
    /// An LSTM with kernels of integers.
    RoundedLstm(quantized::RoundedLstm),
    /// Tensors that a program spells.
    Constant(make::Constant),
    /// The same elements in another shape, as PyTorch counts.
    View(view::View),
    /// A part of an axis.
    Part(part::Part),
    /// A part of an axis put back.
    Put(part::Put),
    /// Windows of an axis.
    Windows(part::Windows),
    /// Rows several times.
    Repeat(part::Repeat),
    /// Axes backwards.
    Flip(order::Flip),
    /// Axes turned.
    Roll(order::Roll),
    /// Elements in order.
    Sort(order::Sort),
    /// Running products.
    CumProd(order::CumProd),
    /// Variance and standard deviation.
    Variance(order::Variance),
    /// Elements at several positions together.
    Index(advanced::Index),
    /// Elements put there.
    IndexPut(advanced::IndexPut),
    /// Attention.
    ScaledAttention(scaled::ScaledAttention),
    /// A softmax that bears that nothing is seen.
    SafeSoftmax(scaled::SafeSoftmax),
    /// A pool into a number of windows.
    AdaptivePool(adaptive::AdaptivePool),
    /// Kinds of dropout.
    Drop(dropout::Drop),
}

/// How ONNX spells all of them.
pub(crate) const ONNX: &[&[(&str, Decode)]] = &[
    attention::ONNX,
    control::ONNX,
    conv::ONNX,
    count::ONNX,
    det::ONNX,
    elementwise::ONNX,
    index::ONNX,
    matmul::ONNX,
    norm::ONNX,
    place::ONNX,
    pool::ONNX,
    quantize::ONNX,
    random::ONNX,
    recurrent::ONNX,
    reduce::ONNX,
    region::ONNX,
    resize::ONNX,
    rotary::ONNX,
    sample::ONNX,
    shape::ONNX,
    signal::ONNX,
];

/// How ONNX Runtime spells what it adds, in the domain `com.microsoft`.
pub(crate) const CONTRIB: &[&[(&str, Decode)]] = &[
    attention::contrib::CONTRIB,
    elementwise::CONTRIB,
    fused::CONTRIB,
    packed::CONTRIB,
    quantize::CONTRIB,
    quantized::CONTRIB,
    rotary::CONTRIB,
];

/// How PyTorch spells all of them.
pub(crate) const ATEN: &[&[(&str, crate::torch::Decode)]] = &[
    conv::aten::ATEN,
    count::aten::ATEN,
    elementwise::aten::ATEN,
    index::aten::ATEN,
    make::aten::ATEN,
    matmul::aten::ATEN,
    norm::aten::ATEN,
    pool::aten::ATEN,
    recurrent::aten::ATEN,
    reduce::aten::ATEN,
    region::aten::ATEN,
    resize::aten::ATEN,
    sample::aten::ATEN,
    scaled::aten::ATEN,
    shape::aten::ATEN,
];

impl Op {
    /// Whether results are positions, sizes or truth values, which have no gradient.
    pub fn is_counted(&self) -> bool {
        use elementwise::{Binary, Cast, Unary};
        match self {
            Op::Arg(_) | Op::Shape(_) | Op::NonZero(_) | Op::OneHot(_) => true,
            Op::Cast(cast) => !matches!(cast, Cast::Float | Cast::Like),
            Op::Unary(unary) => matches!(unary, Unary::Not | Unary::IsNan | Unary::IsInf),
            Op::Binary(binary) => matches!(
                binary,
                Binary::Equal
                    | Binary::Greater
                    | Binary::GreaterOrEqual
                    | Binary::Less
                    | Binary::LessOrEqual
            ),
            _ => false,
        }
    }
}

/// A number counted from the end where it is negative, as an axis of `rank` axes.
pub(crate) fn axis(value: i64, rank: usize) -> Result<usize> {
    let found = if value < 0 { value + rank as i64 } else { value };
    if (0..rank as i64).contains(&found) {
        return Ok(found as usize);
    }
    Err(Error::malformed(format!("axis {value} of a tensor with {rank} axes")))
}

/// Sizes from a list of integers.
pub(crate) fn sizes(values: &[i64]) -> Result<Vec<usize>> {
    let size = |&value: &i64| {
        usize::try_from(value).map_err(|_| Error::malformed(format!("a size of {value}")))
    };
    values.iter().map(size).collect()
}
