//! `anser debug-plan`

use crate::args::DebugPlanArgs;
use crate::output::Output;
use crate::report::Failure;

pub(crate) fn run(args: &DebugPlanArgs) -> Result<(), Failure> {
    let model = args.model.load()?;
    let tokens = args.tokens.resolve(&model)?;
    let mut session = model.session()?;
    let differences = session.compare_with_reference(&tokens)?;
    let mut output = Output::new();
    let bad = |d: &&anser::Difference| d.nmse.is_nan() || d.nmse > args.bound;
    if args.all {
        for d in &differences {
            output.write(format!("{:<24} {:<28} {:.1e}\n", d.node, d.value, d.nmse))?;
        }
    }
    match differences.iter().find(bad) {
        Some(d) => Err(Failure::about(
            model.name(),
            format!("{} is the first operation that differs: its {} has NMSE {:.1e}", d.node, d.value, d.nmse),
        )),
        None => {
            let worst = differences.iter().max_by(|a, b| a.nmse.total_cmp(&b.nmse));
            let worst =
                worst.map_or(String::new(), |d| format!("; the largest NMSE is {:.1e}, of {}", d.nmse, d.value));
            output.write(format!("all {} values agree to {:.0e}{worst}\n", differences.len(), args.bound))
        }
    }
}
