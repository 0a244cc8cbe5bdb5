use super::*;

const WIDTH: i64 = 12;

fn literal(index: u32) -> Literal {
    Literal::Constant { tensor: 0, index }
}

/// Expressions over one dimension, of size 12, and literals that the source spells.
#[derive(Default)]
struct World(Sizes);

impl World {
    fn dim(&mut self) -> ExprId {
        self.0.add(Expr::Dim(ValueId::new(0), 0))
    }

    fn spelled(&mut self, index: u32, value: i64) -> ExprId {
        self.0.add(Expr::Number(Scalar::Int(value), Some(literal(index))))
    }

    fn float(&mut self, value: f64) -> ExprId {
        self.0.add(Expr::Number(Scalar::Float(value), None))
    }

    fn unary(&mut self, op: Unary, a: ExprId) -> ExprId {
        self.0.add(Expr::Unary(op, a))
    }

    fn binary(&mut self, op: Binary, a: ExprId, b: ExprId) -> ExprId {
        self.0.add(Expr::Binary(op, a, b))
    }

    fn eval(&self, id: ExprId) -> Option<Scalar> {
        self.0.eval(id, &dim, &Patches::new())
    }

    fn solve(&self, id: ExprId, want: i64) -> Option<(Literal, i64)> {
        self.0.solve(id, want, &dim, &Patches::new())
    }
}

fn dim(_: ValueId, axis: u32) -> Option<i64> {
    (axis == 0).then_some(WIDTH)
}

/// `12 op 5` over integers and over floats.
fn both(op: Binary, a: i64, b: i64) -> [Option<Scalar>; 2] {
    [
        binary(op, Scalar::Int(a), Scalar::Int(b)),
        binary(op, Scalar::Int(a), Scalar::Float(b as f64)),
    ]
}

#[test]
fn operators_compute_integers_and_floats() {
    use Scalar::{Float, Int};
    let cases = [
        (Binary::Add, Int(17), Float(17.0)),
        (Binary::Sub, Int(7), Float(7.0)),
        (Binary::Mul, Int(60), Float(60.0)),
        (Binary::Div, Int(2), Float(2.4)),
        (Binary::Mod, Int(2), Float(2.0)),
        (Binary::Min, Int(5), Float(5.0)),
        (Binary::Max, Int(12), Float(12.0)),
        (Binary::Pow, Int(248_832), Float(248_832.0)),
        (Binary::Equal, Int(0), Int(0)),
        (Binary::Less, Int(0), Int(0)),
        (Binary::LessOrEqual, Int(0), Int(0)),
        (Binary::Greater, Int(1), Int(1)),
        (Binary::GreaterOrEqual, Int(1), Int(1)),
        (Binary::And, Int(1), Int(1)),
        (Binary::Or, Int(1), Int(1)),
    ];
    for (op, int, float) in cases {
        assert_eq!(both(op, 12, 5), [Some(int), Some(float)], "{op:?}");
    }
    let cases = [
        (Unary::Neg, Int(7), Int(-7)),
        (Unary::Neg, Float(0.5), Float(-0.5)),
        (Unary::Abs, Int(-7), Int(7)),
        (Unary::Abs, Float(-0.5), Float(0.5)),
        (Unary::Sqrt, Int(16), Float(4.0)),
        (Unary::Floor, Float(-0.5), Float(-1.0)),
        (Unary::Ceil, Float(0.2), Float(1.0)),
        (Unary::Round, Float(2.5), Float(2.0)),
        (Unary::Reciprocal, Int(4), Float(0.25)),
        (Unary::Not, Int(7), Int(0)),
        (Unary::ToInt, Float(-1.9), Int(-1)),
        (Unary::ToFloat, Int(3), Float(3.0)),
        (Unary::ToBool, Float(0.1), Int(1)),
    ];
    for (op, from, to) in cases {
        assert_eq!(unary(op, from), Some(to), "{op:?}");
    }
}

#[test]
fn what_is_not_defined_has_no_value() {
    let undefined = [
        (Binary::Add, i64::MAX, 1),
        (Binary::Sub, i64::MIN, 1),
        (Binary::Mul, i64::MAX, 2),
        (Binary::Div, 1, 0),
        (Binary::Div, i64::MIN, -1),
        (Binary::Mod, 1, 0),
        (Binary::Pow, 2, -1),
        (Binary::Pow, 2, 64),
    ];
    for (op, a, b) in undefined {
        assert_eq!(integer(op, a, b), None, "{op:?} {a} {b}");
    }
    assert_eq!(unary(Unary::Neg, Scalar::Int(i64::MIN)), None);
    assert_eq!(unary(Unary::Abs, Scalar::Int(i64::MIN)), None);
    assert_eq!(unary(Unary::ToInt, Scalar::Float(f64::NAN)), None);
    let mut world = World::default();
    let unknown = world.0.add(Expr::Dim(ValueId::new(0), 1));
    let one = world.spelled(0, 1);
    let sum = world.binary(Binary::Add, unknown, one);
    assert_eq!(world.eval(sum), None);
}

#[test]
fn select_evaluates_only_the_branch_that_it_takes() {
    let mut world = World::default();
    let (yes, one, zero) = (world.spelled(0, 1), world.spelled(1, 1), world.spelled(2, 0));
    let undefined = world.binary(Binary::Div, one, zero);
    let select = world.0.add(Expr::Select(yes, one, undefined));
    assert_eq!(world.eval(select), Some(Scalar::Int(1)));
    assert_eq!(world.solve(select, 9), Some((literal(1), 9)));
}

#[test]
fn patches_replace_literals_wherever_they_are_read() {
    let mut world = World::default();
    let heads = world.spelled(3, 4);
    let width = world.dim();
    let per_head = world.binary(Binary::Div, width, heads);
    let back = world.binary(Binary::Mul, per_head, heads);
    assert_eq!(world.eval(per_head), Some(Scalar::Int(3)));
    let patches = Patches::from([(literal(3), 6)]);
    assert_eq!(world.0.eval(per_head, &dim, &patches), Some(Scalar::Int(2)));
    assert_eq!(world.0.eval(back, &dim, &patches), Some(Scalar::Int(12)));
}

/// The literal, spelled 4, that makes `width op literal` and `literal op width` equal to `want`.
fn solved(op: Binary, want: i64) -> [Option<i64>; 2] {
    let mut world = World::default();
    let (width, number) = (world.dim(), world.spelled(0, 4));
    let (right, left) = (world.binary(op, width, number), world.binary(op, number, width));
    [right, left].map(|expr| world.solve(expr, want).map(|(_, value)| value))
}

#[test]
fn arithmetic_is_solved_for_its_literal() {
    assert_eq!(solved(Binary::Add, 20), [Some(8), Some(8)]);
    assert_eq!(solved(Binary::Sub, 5), [Some(7), Some(17)]);
    assert_eq!(solved(Binary::Mul, 36), [Some(3), Some(3)]);
    assert_eq!(solved(Binary::Div, 3), [Some(4), Some(36)]);
}

#[test]
fn what_no_integer_satisfies_is_not_solved() {
    assert_eq!(solved(Binary::Mul, 37), [None, None]);
    assert_eq!(solved(Binary::Div, 5), [None, Some(60)]);
    assert_eq!(solved(Binary::Div, 0), [None, Some(0)]);
    for op in [Binary::Mod, Binary::Min, Binary::Max, Binary::Pow, Binary::Equal] {
        assert_eq!(solved(op, 4), [None, None], "{op:?}");
    }
    assert_eq!(solved(Binary::Sub, i64::MIN), [None, Some(i64::MIN + 12)]);
}

#[test]
fn only_integers_that_the_source_spells_are_solved_for() {
    let mut world = World::default();
    let (width, half, made) = (world.dim(), world.float(0.5), world.0.int(4));
    let number = world.spelled(0, 4);
    let cases = [width, half, made];
    assert_eq!(cases.map(|expr| world.solve(expr, 6)), [None; 3]);
    let negated = world.unary(Unary::Neg, number);
    assert_eq!(world.solve(negated, -6), Some((literal(0), 6)));
    assert_eq!(world.solve(negated, i64::MIN), None);
    let cast = world.unary(Unary::ToInt, number);
    assert_eq!(world.solve(cast, 6), Some((literal(0), 6)));
    let floored = world.unary(Unary::Floor, number);
    assert_eq!(world.solve(floored, 6), None);
}

#[test]
fn leaves_are_visited_as_often_as_they_are_used() {
    let mut world = World::default();
    let (width, number) = (world.dim(), world.spelled(0, 4));
    let sum = world.binary(Binary::Add, width, number);
    let twice = world.binary(Binary::Mul, sum, width);
    let mut dims = 0;
    world.0.leaves(twice, &mut |leaf| dims += usize::from(matches!(leaf, Expr::Dim(..))));
    assert_eq!(dims, 2);
}

#[test]
fn deep_and_repeated_expressions_are_too_large() {
    let mut world = World::default();
    let one = world.spelled(0, 1);
    let mut chain = one;
    for _ in 0..255 {
        chain = world.binary(Binary::Add, chain, one);
    }
    assert!(!world.0.is_too_large(chain));
    let deeper = world.unary(Unary::Neg, chain);
    assert!(world.0.is_too_large(deeper));
    let mut doubled = one;
    for _ in 0..11 {
        doubled = world.binary(Binary::Add, doubled, doubled);
    }
    assert!(!world.0.is_too_large(doubled));
    let again = world.binary(Binary::Add, doubled, doubled);
    assert!(world.0.is_too_large(again));
    // Past what 32 bits count, it stays too large.
    for _ in 0..40 {
        doubled = world.binary(Binary::Add, doubled, doubled);
    }
    assert!(world.0.is_too_large(doubled));
}

#[test]
fn truncating_takes_expressions_back() {
    let mut world = World::default();
    let kept = world.spelled(0, 4);
    let len = world.0.len();
    world.unary(Unary::Neg, kept);
    world.0.truncate(len);
    let again = world.unary(Unary::Abs, kept);
    assert_eq!(world.eval(again), Some(Scalar::Int(4)));
    assert!(!world.0.is_too_large(again));
}
