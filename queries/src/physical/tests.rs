//! Proves that programs compute what SQL says, batch by batch.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use driftline_operators::expression::{AggregateProgram, finish_all};

use crate::functions::{
    Accumulator, AggregateFunction, ArgumentTypes, BoxError, Functions, ScalarFunction,
};
use crate::plan::{Node, Plan};
use crate::planner::Planner;
use crate::planner::tests::Shelf;
use crate::statement::Query;

const SOURCE: &str =
    "CREATE SOURCE m (k TEXT, ts TIMESTAMP(3), x DOUBLE, n BIGINT, WATERMARK FOR ts)";

fn plan_with(functions: Functions, sql: &str) -> Plan {
    let planner = Planner::new(functions);
    planner
        .plan_query(&Query::parse(sql).unwrap(), &Shelf::of(SOURCE))
        .unwrap_or_else(|e| panic!("{sql}\n{e}"))
}

fn plan(sql: &str) -> Plan {
    plan_with(Functions::new(), sql)
}

fn rows() -> RecordBatch {
    let schema = plan("SELECT * FROM m").schema;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("a"), Some("b")])),
        Arc::new(TimestampMillisecondArray::from(vec![5, 1, 2, 3, 4])),
        Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0), Some(3.0), None, Some(-5.0)])),
        Arc::new(Int64Array::from(vec![10, 0, 30, 40, 50])),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Runs a plan of transforms only.
fn run(plan: &Plan, batch: &RecordBatch) -> RecordBatch {
    match &plan.node {
        Node::Scan(_) => batch.clone(),
        Node::Transform { input, program, .. } => {
            let out = program.apply(&run(input, batch)).unwrap();
            assert_eq!(out.schema(), plan.schema);
            out
        }
        other => panic!("{other:?}"),
    }
}

fn program(plan: &Plan) -> Arc<dyn AggregateProgram> {
    match &plan.node {
        Node::AggregateWindows { program, .. } => Arc::clone(program),
        Node::Transform { input, .. } => program(input),
        other => panic!("{other:?}"),
    }
}

/// The rows that reach the windows of a plan.
fn windowed_rows(plan: &Plan) -> RecordBatch {
    match &plan.node {
        Node::AggregateWindows { input, .. } => run(input, &rows()),
        Node::Transform { input, .. } => windowed_rows(input),
        other => panic!("{other:?}"),
    }
}

/// Groups by the first key column as numbered in `groups`, in two halves that are merged as a dataflow would.
fn aggregate(plan: &Plan, groups: [usize; 5], group_count: usize) -> Vec<ArrayRef> {
    let program = program(plan);
    let batch = windowed_rows(plan);
    let halves = [0..2, 2..5].map(|range| {
        let part = batch.slice(range.start, range.len());
        let input = program.prepare(&part).unwrap();
        let mut accumulators = program.accumulators().unwrap();
        assert_eq!(accumulators.len(), input.arguments.len());
        for (accumulator, arguments) in accumulators.iter_mut().zip(&input.arguments) {
            accumulator.update(arguments, &groups[range.clone()], group_count).unwrap();
            assert!(accumulator.bytes() > 0);
        }
        accumulators
    });
    let mut merged = program.accumulators().unwrap();
    let all: Vec<usize> = (0..group_count).collect();
    for mut half in halves {
        let fields = program.state_fields();
        for ((into, from), fields) in merged.iter_mut().zip(&mut half).zip(fields) {
            let state = from.state().unwrap();
            assert_eq!(state.len(), fields.len());
            for (array, field) in state.iter().zip(&fields) {
                assert_eq!(array.data_type(), field.data_type());
            }
            into.merge(&state, &all, group_count).unwrap();
        }
    }
    let results = finish_all(&*program, &mut merged).unwrap();
    for (result, field) in results.iter().zip(program.output_fields().iter()) {
        assert_eq!(result.data_type(), field.data_type(), "{field:?}");
        assert_eq!(result.len(), group_count);
    }
    assert_eq!(results.len(), program.output_fields().len());
    results
}

fn floats(array: &ArrayRef) -> Vec<Option<f64>> {
    array.as_primitive::<Float64Type>().iter().collect()
}

fn integers(array: &ArrayRef) -> Vec<Option<i64>> {
    array.as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn filters_drop_rows_that_are_false_or_null() {
    let out = run(&plan("SELECT k, x * 2 AS y FROM m WHERE x > 0 AND k IS NOT NULL"), &rows());
    assert_eq!(floats(out.column(1)), [Some(2.0), Some(4.0)]);
    let all = run(&plan("SELECT n FROM m WHERE n >= 0"), &rows());
    assert_eq!(all.num_rows(), 5);
    let none = run(&plan("SELECT n FROM m WHERE false"), &rows());
    assert_eq!(none.num_rows(), 0);
}

#[test]
fn a_later_filter_sees_only_rows_that_passed() {
    let sql = "SELECT q FROM (SELECT 100 / n AS q FROM m WHERE n <> 0) WHERE 100 / q > 2";
    let out = run(&plan(sql), &rows());
    assert_eq!(integers(out.column(0)), [Some(10), Some(3), Some(2), Some(2)]);
}

#[test]
fn nested_values_have_the_planned_type() {
    let plan = plan(
        "SELECT named_struct('k', k, 'start', ts) AS s, [x, n] AS l, {'a': x, 'b': 1.5} AS m, [k, 'z'][1] AS first, \
         make_array(named_struct('x', x)) AS deep, date_trunc('minute', ts) AS t, CAST(n AS DECIMAL(12, 2)) AS d, \
         regexp_match(k, 'a') AS r, CASE WHEN x > 1 THEN n END AS c, arrow_cast(k, 'Utf8View') AS v FROM m",
    );
    let out = run(&plan, &rows());
    assert_eq!(out.num_rows(), 5);
    assert_eq!(out.column(3).as_string::<i32>().value(0), "a");
    let plan = self::plan(
        "SELECT tumble(INTERVAL '1 minute') AS w, array_agg(n ORDER BY ts) AS l, count(*) AS c FROM m GROUP BY w",
    );
    let Node::Transform { input, program, .. } = &plan.node else { panic!("{plan}") };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from(vec![0])),
        Arc::new(TimestampMillisecondArray::from(vec![60_000])),
    ];
    columns.extend(aggregate(&plan, [0; 5], 1));
    let windows = RecordBatch::try_new(Arc::clone(&input.schema), columns).unwrap();
    assert_eq!(program.apply(&windows).unwrap().schema(), plan.schema);
}

#[test]
fn the_longest_chains_evaluate_on_a_small_stack() {
    let sum = vec!["x"; 480].join("+");
    assert_eq!(
        floats(run(&plan(&format!("SELECT {sum} AS s FROM m")), &rows()).column(0))[0],
        Some(480.0)
    );
    let ones = vec!["1"; 980].join("+");
    assert_eq!(
        integers(run(&plan(&format!("SELECT n * 0 + {ones} AS s FROM m")), &rows()).column(0))[0],
        Some(980)
    );
    let ors: Vec<String> = (0..240).map(|i| format!("n * 1 = {i}")).collect();
    let ors = plan(&format!("SELECT n FROM m WHERE {}", ors.join(" OR ")));
    assert_eq!(run(&ors, &rows()).num_rows(), 5);
    let mut deep = "x".to_owned();
    for _ in 0..20 {
        deep = format!("abs({deep} + {})", vec!["x"; 15].join(" - "));
    }
    plan(&format!("SELECT {deep} AS d FROM m"));
}

#[test]
fn plain_columns_are_not_copied() {
    let batch = rows();
    let out = run(&plan("SELECT n, n AS again, k FROM m"), &batch);
    for (i, from) in [(0, 3), (1, 3), (2, 0)] {
        assert!(Arc::ptr_eq(out.column(i), batch.column(from)));
    }
}

#[test]
fn subqueries_fold_into_one_step() {
    let folded = plan("SELECT a + 1 AS b FROM (SELECT x + 1 AS a FROM m WHERE n > 0) WHERE a > 2");
    assert_eq!(folded.explain().len(), 2, "{folded}");
    assert_eq!(floats(run(&folded, &rows()).column(0)), [Some(5.0)]);
    let kept = plan("SELECT a * a AS b FROM (SELECT x + 1 AS a FROM m) WHERE a < 3");
    assert_eq!(kept.explain().len(), 3, "computed columns used twice are computed once: {kept}");
    assert_eq!(floats(run(&kept, &rows()).column(0)), [Some(4.0), Some(16.0)]);
}

#[test]
fn an_error_on_a_row_is_reported_not_a_panic() {
    let plan = plan("SELECT 1 / n AS q FROM m");
    let Node::Transform { program, .. } = &plan.node else { panic!("{plan}") };
    let error = program.apply(&rows()).unwrap_err();
    assert!(error.to_string().starts_with("evaluation of "), "{error}");
    assert_eq!(program.apply(&rows().slice(2, 3)).unwrap().num_rows(), 3);
}

#[test]
fn batches_without_rows_pass() {
    let empty = rows().slice(0, 0);
    assert_eq!(run(&plan("SELECT 1 AS one, x FROM m WHERE x > 1"), &empty).num_rows(), 0);
    assert_eq!(run(&plan("SELECT 1 AS one FROM m"), &rows()).num_rows(), 5);
}

#[test]
fn aggregates_of_every_kind_survive_split_and_merge() {
    let plan = plan(
        "SELECT avg(x), sum(n), count(*), count(x), min(x), max(k), stddev(x), count(DISTINCT k), \
         sum(n) FILTER (WHERE x > 0), approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY x), median(n), \
         first_value(n ORDER BY ts), last_value(n ORDER BY ts), array_agg(n ORDER BY ts DESC), bool_or(x > 2), \
         approx_distinct(k), var_pop(x), corr(x, n), percentile_cont(0.5) WITHIN GROUP (ORDER BY x) \
         FROM TUMBLE(m, ts, INTERVAL '1 minute') GROUP BY window_start, window_end",
    );
    let out = aggregate(&plan, [0, 0, 0, 0, 1], 2);
    assert_eq!(floats(&out[0]), [Some(2.0), Some(-5.0)]);
    assert_eq!(integers(&out[1]), [Some(80), Some(50)]);
    assert_eq!(integers(&out[2]), [Some(4), Some(1)]);
    assert_eq!(integers(&out[3]), [Some(3), Some(1)]);
    assert_eq!(floats(&out[4]), [Some(1.0), Some(-5.0)]);
    assert_eq!(out[5].as_string::<i32>().value(0), "b");
    assert_eq!(floats(&out[6])[0], Some(1.0));
    assert_eq!(integers(&out[7]), [Some(2), Some(1)]);
    assert_eq!(integers(&out[8]), [Some(40), None]);
    assert_eq!(floats(&out[9]), [Some(2.0), Some(-5.0)]);
    assert_eq!(floats(&out[10]), [Some(20.0), Some(50.0)]);
    assert_eq!(integers(&out[11]), [Some(0), Some(50)], "earliest by ts, not by arrival");
    assert_eq!(integers(&out[12]), [Some(10), Some(50)]);
    assert_eq!(
        integers(&out[13].as_list::<i32>().value(0)),
        [Some(10), Some(40), Some(30), Some(0)]
    );
    assert!(out[14].as_boolean().value(0) && !out[14].as_boolean().value(1));
    assert_eq!(floats(&out[18]), [Some(2.0), Some(-5.0)]);
}

#[test]
fn accumulators_are_empty_after_finish_and_state() {
    let plan = plan(
        "SELECT sum(n), count(*), count(DISTINCT k), median(x) FROM m GROUP BY tumble(INTERVAL '1 minute')",
    );
    let program = program(&plan);
    let input = program.prepare(&windowed_rows(&plan)).unwrap();
    for (i, mut accumulator) in program.accumulators().unwrap().into_iter().enumerate() {
        let arguments = &input.arguments[i];
        accumulator.update(arguments, &[0; 5], 1).unwrap();
        let first = accumulator.finish().unwrap();
        accumulator.update(arguments, &[0; 5], 1).unwrap();
        assert_eq!(&first, &accumulator.finish().unwrap());
        accumulator.update(arguments, &[0; 5], 1).unwrap();
        accumulator.state().unwrap();
        accumulator.update(arguments, &[1; 5], 2).unwrap();
        assert!(accumulator.finish().unwrap().iter().all(|result| result.len() == 2));
    }
}

#[test]
fn statistics_that_share_an_accumulator_are_what_each_is_alone() {
    let asked = [
        "max(x)",
        "count(*)",
        "sum(n)",
        "avg(x)",
        "count(x)",
        "stddev(x)",
        "min(x) FILTER (WHERE n > 0)",
        "var_pop(x)",
        "sum(x)",
        "stddev_pop(x)",
        "min(x)",
        "var_samp(x)",
        "count(*) FILTER (WHERE n > 0)",
    ];
    let select =
        |list: &str| plan(&format!("SELECT {list} FROM m GROUP BY tumble(INTERVAL '1 minute')"));
    let together = select(&asked.join(", "));
    // Nine share one; a sum of another column and those with a filter have their own.
    assert_eq!(program(&together).accumulators().unwrap().len(), 4);
    let groups = [0, 1, 2, 2, 0];
    let together = aggregate(&together, groups, 3);
    for (found, asked) in together.iter().zip(asked) {
        let alone = select(asked);
        assert_eq!(program(&alone).accumulators().unwrap().len(), 1);
        assert_eq!(found, &aggregate(&alone, groups, 3)[0], "{asked}");
    }
}

#[test]
fn keys_may_be_expressions() {
    let plan = plan(
        "SELECT upper(k) AS u, n % 20 AS r, count(*) FROM TUMBLE(m, ts, INTERVAL '1 minute') \
         GROUP BY window_end, upper(k), n % 20",
    );
    let program = program(&plan);
    let input = program.prepare(&windowed_rows(&plan)).unwrap();
    assert_eq!(input.keys.len(), 2);
    assert_eq!(input.keys[0].as_string::<i32>().value(1), "B");
    assert_eq!(integers(&input.keys[1]), [Some(10), Some(0), Some(10), Some(0), Some(10)]);
    assert_eq!(program.key_fields().len(), 2);
}

#[test]
fn host_functions_are_called() {
    let mut functions = Functions::new();
    functions
        .register_scalar(ScalarFunction::new(
            "double_it",
            ArgumentTypes::Exact(vec![DataType::Float64]),
            DataType::Float64,
            |args| {
                let doubled: Float64Array = args[0]
                    .as_primitive::<Float64Type>()
                    .iter()
                    .map(|x| x.map(|x| x * 2.0))
                    .collect();
                Ok(Arc::new(doubled))
            },
        ))
        .unwrap();
    functions
        .register_aggregate(AggregateFunction::new(
            "product",
            ArgumentTypes::Exact(vec![DataType::Float64]),
            DataType::Float64,
            vec![DataType::Float64],
            || Box::new(Product(1.0)),
        ))
        .unwrap();
    let plan = plan_with(functions.clone(), "SELECT double_it(n) AS d FROM m");
    assert_eq!(floats(run(&plan, &rows()).column(0))[0], Some(20.0));
    let plan = plan_with(
        functions.clone(),
        "SELECT product(x) FROM m GROUP BY tumble(INTERVAL '1 minute')",
    );
    assert_eq!(floats(&aggregate(&plan, [0; 5], 1)[0]), [Some(-30.0)]);
    let plan = plan_with(
        functions,
        "SELECT product(x) FILTER (WHERE x > 0) FROM m GROUP BY tumble(INTERVAL '1 minute')",
    );
    assert_eq!(floats(&aggregate(&plan, [0, 1, 1, 0, 0], 2)[0]), [Some(1.0), Some(6.0)]);
}

struct Product(f64);

impl Accumulator for Product {
    fn update(&mut self, arguments: &[ArrayRef]) -> Result<(), BoxError> {
        self.0 *= arguments[0].as_primitive::<Float64Type>().iter().flatten().product::<f64>();
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef]) -> Result<(), BoxError> {
        self.update(states)
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, BoxError> {
        Ok(vec![self.finish()?])
    }

    fn finish(&mut self) -> Result<ArrayRef, BoxError> {
        Ok(Arc::new(Float64Array::from(vec![self.0])))
    }
}

#[test]
fn host_functions_that_break_their_word_are_errors() {
    let mut functions = Functions::new();
    let one =
        |_: &[ArrayRef]| -> Result<ArrayRef, BoxError> { Ok(Arc::new(Int64Array::from(vec![1]))) };
    functions
        .register_scalar(ScalarFunction::new("one", ArgumentTypes::Any, DataType::Int64, one))
        .unwrap();
    let again = ScalarFunction::new("one", ArgumentTypes::Any, DataType::Int64, one);
    assert_eq!(
        functions.register_scalar(again).unwrap_err().message(),
        "function \"one\" exists already"
    );
    let odd = ScalarFunction::new("No Name", ArgumentTypes::Any, DataType::Int64, one);
    assert!(functions.register_scalar(odd).is_err());
    let plan = plan_with(functions, "SELECT one(x) FROM m");
    let Node::Transform { program, .. } = &plan.node else { panic!("{plan}") };
    assert!(program.apply(&rows()).is_err());
}
