//! The order in which leaves are added: a binary tree over all of them.

/// Neighbouring leaves that are added up: from `first` on, up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The first leaf.
    pub first: usize,
    /// The leaf after the last.
    pub end: usize,
}

impl Node {
    /// The two nodes that it is the sum of; none of a leaf.
    ///
    /// Leaves are paired (0, 1), (2, 3), …, then these pairs, and so on; what has no neighbour is
    /// passed up. So a node of n leaves is that of the greatest power of two below n, and the
    /// rest.
    pub fn halves(self) -> Option<(Self, Self)> {
        let (first, end) = (self.first, self.end);
        let n = end.saturating_sub(first);
        if n < 2 {
            return None;
        }
        let middle = first + n.next_power_of_two() / 2;
        Some((Self { first, end: middle }, Self { first: middle, end }))
    }
}

/// The tree over some leaves, which says in which order they are added. It depends on their
/// number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    leaves: usize,
}

impl Tree {
    /// Over so many leaves.
    pub fn new(leaves: usize) -> Self {
        Self { leaves }
    }

    /// How many leaves it has.
    pub fn leaves(self) -> usize {
        self.leaves
    }

    /// The sum of all.
    pub fn root(self) -> Node {
        Node {
            first: 0,
            end: self.leaves,
        }
    }

    /// The greatest nodes whose leaves all lie in `first..end`, from left to right: what can be
    /// added up by whoever has those leaves alone.
    pub fn complete(self, first: usize, end: usize) -> Vec<Node> {
        let mut found = Vec::new();
        let mut open = vec![self.root()];
        while let Some(node) = open.pop() {
            if node.first >= end || node.end <= first || node.first == node.end {
                continue;
            }
            if first <= node.first && node.end <= end {
                found.push(node);
            } else if let Some((left, right)) = node.halves() {
                open.push(right);
                open.push(left);
            }
        }
        found
    }
}

/// Adds up a node: of what `given` has, else of its halves. None where `given` lacks a leaf.
pub(crate) fn sum<V, E>(
    node: Node,
    given: &mut impl FnMut(Node) -> Option<V>,
    add: &mut impl FnMut(V, V) -> Result<V, E>,
) -> Result<Option<V>, E> {
    if let Some(value) = given(node) {
        return Ok(Some(value));
    }
    let Some((left, right)) = node.halves() else {
        return Ok(None);
    };
    match (sum(left, given, add)?, sum(right, given, add)?) {
        (Some(left), Some(right)) => Ok(Some(add(left, right)?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the rule as it is told: neighbours are paired level by level.
    fn by_levels(leaves: usize) -> String {
        let mut level: Vec<String> = (0..leaves).map(|i| i.to_string()).collect();
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| match pair {
                    [a, b] => format!("({a}+{b})"),
                    rest => rest.concat(),
                })
                .collect();
        }
        level.concat()
    }

    fn by_nodes(node: Node, given: &mut impl FnMut(Node) -> Option<String>) -> Option<String> {
        let mut add = |a: String, b: String| Ok::<_, ()>(format!("({a}+{b})"));
        sum(node, given, &mut add).expect("adds")
    }

    fn leaf(node: Node) -> Option<String> {
        (node.end == node.first + 1).then(|| node.first.to_string())
    }

    #[test]
    fn nodes_are_those_of_pairs_level_by_level() {
        for leaves in 1..70 {
            let found = by_nodes(Tree::new(leaves).root(), &mut leaf);
            assert_eq!(found, Some(by_levels(leaves)), "{leaves} leaves");
        }
    }

    #[test]
    fn whoever_adds_up_its_own_leaves_first_gets_the_same_tree() {
        for leaves in 1..40usize {
            for ranks in 1..=leaves {
                let share = leaves.div_ceil(ranks);
                let tree = Tree::new(leaves);
                let mut nodes = Vec::new();
                for rank in 0..ranks {
                    nodes.extend(tree.complete(rank * share, (rank + 1) * share));
                }
                // They cover all leaves, each once and in order.
                let mut at = 0;
                for node in &nodes {
                    assert_eq!(node.first, at);
                    at = node.end;
                }
                assert_eq!(at, leaves);
                let mut given = |node: Node| {
                    let known = nodes.contains(&node);
                    known.then(|| by_nodes(node, &mut leaf)).flatten()
                };
                let found = by_nodes(tree.root(), &mut given);
                assert_eq!(found, Some(by_levels(leaves)), "{leaves} over {ranks}");
            }
        }
    }

    #[test]
    fn a_missing_leaf_is_no_sum() {
        let mut given = |node: Node| leaf(node).filter(|_| node.first != 2);
        assert_eq!(by_nodes(Tree::new(4).root(), &mut given), None);
        assert_eq!(Tree::new(0).complete(0, 5), []);
    }
}
