//! A plan as a graph: which operation makes a value, and which read it.

use super::rule::{Rule, Unit};
use anser_model::{Op, Plan, ValueId};

/// A plan with the maker and the readers of each of its values.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) plan: &'a Plan,
    /// Per value: the node that makes it; `None` for what the caller of a step provides.
    maker: Vec<Option<usize>>,
    /// Per value: the nodes that read it, in the plan's order.
    readers: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Graph<'a> {
        let (maker, readers) = (vec![None; plan.values.len()], vec![vec![]; plan.values.len()]);
        let mut graph = Graph { plan, maker, readers };
        for (i, node) in plan.nodes.iter().enumerate() {
            node.op.outputs().into_iter().for_each(|id| graph.maker[id.index()] = Some(i));
            node.op.inputs().into_iter().for_each(|id| graph.readers[id.index()].push(i));
        }
        graph
    }

    /// The operation of a node.
    pub(crate) fn op(&self, node: usize) -> &'a Op {
        &self.plan.nodes[node].op
    }

    /// The node that makes a value.
    pub(crate) fn maker(&self, id: ValueId) -> Option<usize> {
        self.maker[id.index()]
    }

    /// The nodes that read a value.
    pub(crate) fn readers(&self, id: ValueId) -> &[usize] {
        &self.readers[id.index()]
    }

    /// Whether exactly these nodes, in the plan's order, read the value.
    pub(crate) fn only(&self, id: ValueId, readers: &[usize]) -> bool {
        self.readers(id) == readers
    }

    /// The unit in which `rule` computes `nodes`. Results that nothing outside of it reads stay inside, unless nothing at all
    /// reads them: those are for the caller.
    pub(crate) fn unit(&self, rule: &'static Rule, nodes: Vec<usize>) -> Unit {
        let leaves = |id: &ValueId| {
            let readers = self.readers(*id);
            readers.is_empty() || readers.iter().any(|reader| !nodes.contains(reader))
        };
        let outputs = nodes.iter().flat_map(|&node| self.op(node).outputs()).filter(leaves).collect();
        Unit { rule, nodes, outputs }
    }
}
