//! Which operations of a plan one kernel computes together, and in which order the units run.

use super::graph::Graph;
use super::rule::{Group, Pattern, Rules, Unit};
use super::target::Target;
use anser_model::Plan;

/// The plan's units for `target`, in the order of execution: every operation is in one of them.
///
/// 1. Rules that look around a node take the operations that they match, in the plan's order; the rest are units by themselves.
/// 2. Units of independent operations, the products, are put together where their inputs are there at the same time.
/// 3. Rules of neighbouring units put those together.
pub(crate) fn units(plan: &Plan, target: &Target, rules: &Rules) -> Vec<Unit> {
    let graph = &Graph::new(plan);
    let plain = |node: usize| graph.unit((rules.plain)(graph.op(node)), vec![node]);
    if !target.fuses {
        return (0..plan.nodes.len()).map(plain).collect();
    }
    let mut units: Vec<Unit> = vec![];
    let mut is_taken = vec![false; plan.nodes.len()];
    for node in 0..plan.nodes.len() {
        let found = rules.fused.iter().find_map(|&rule| {
            let Pattern::Around(matches) = rule.pattern else { return None };
            let nodes = matches(graph, node)?;
            (rule.fits)(graph, &nodes, target).then(|| graph.unit(rule, nodes))
        });
        if let Some(unit) = found {
            unit.nodes.iter().for_each(|&node| is_taken[node] = true);
            units.push(unit);
        }
    }
    units.extend((0..plan.nodes.len()).filter(|&node| !is_taken[node]).map(plain));
    units.sort_by_key(|unit| unit.nodes.iter().copied().max());
    join_neighbours(graph, join_independent(graph, units, target), target, rules)
}

/// Orders the units so that independent operations of one group whose inputs are there at the same time are one unit.
fn join_independent(graph: &Graph, units: Vec<Unit>, target: &Target) -> Vec<Unit> {
    let mut is_there = vec![true; graph.plan.values.len()];
    for id in graph.plan.nodes.iter().flat_map(|node| node.op.outputs()) {
        is_there[id.index()] = false;
    }
    let group_of = |unit: &Unit| -> Option<Group> {
        let Pattern::Independent { group } = unit.rule.pattern else { return None };
        Some(group(graph, unit.nodes[0], target))
    };
    let (mut rest, mut ordered) = (units, vec![]);
    while !rest.is_empty() {
        let is_ready = |unit: &Unit| unit.inputs(graph.plan).into_iter().all(|id| is_there[id.index()]);
        // The plan's order is an order of execution, so the first of the rest is always ready.
        let first = rest.remove(0);
        let unit = match group_of(&first) {
            None => first,
            Some(group) => {
                let joins = |unit: &Unit| group_of(unit) == Some(group) && is_ready(unit);
                let (joining, others): (Vec<Unit>, Vec<Unit>) = rest.into_iter().partition(joins);
                rest = others;
                let nodes = first.nodes.iter().chain(joining.iter().flat_map(|unit| &unit.nodes)).copied();
                graph.unit(first.rule, nodes.collect())
            }
        };
        unit.outputs.iter().for_each(|id| is_there[id.index()] = true);
        ordered.push(unit);
    }
    ordered
}

/// Puts two units that follow each other together where a rule computes both.
fn join_neighbours(graph: &Graph, units: Vec<Unit>, target: &Target, rules: &Rules) -> Vec<Unit> {
    let joined = |before: &Unit, unit: &Unit| {
        rules.fused.iter().find_map(|&rule| {
            let Pattern::Units(matches) = rule.pattern else { return None };
            let nodes = matches(graph, [before, unit])?;
            (rule.fits)(graph, &nodes, target).then(|| graph.unit(rule, nodes))
        })
    };
    let mut found: Vec<Unit> = vec![];
    for unit in units {
        match found.last().and_then(|before| joined(before, &unit)) {
            Some(together) => {
                found.pop();
                found.push(together);
            }
            None => found.push(unit),
        }
    }
    found
}
