//! Sums over a fixed binary tree, so that no sum depends on who computes which part of it.
//!
//! The leaves of a step are its batches, 0 to n − 1. Neighbours (0, 1), (2, 3), … are added,
//! then neighbours among these sums, until one is left; the last of an odd number is passed up
//! as it is. A node is therefore the leaves `i·2ᵏ..(i + 1)·2ᵏ`, as far as there are any: which
//! ones follows from n alone. Whoever holds a contiguous range of leaves can add up the nodes
//! that lie in it ([`completed`]); whoever is given all nodes, in the order of their leaves, gets
//! the same bits as one who adds the leaves ([`Tree::add`]).

use std::ops::Range;

/// The largest nodes of the tree over `leaves` leaves that lie within `range`, in order: what
/// can be added up without the leaves of others.
pub fn completed(leaves: usize, range: Range<usize>) -> Vec<Range<usize>> {
    let end = range.end.min(leaves);
    let mut nodes = Vec::new();
    let mut at = range.start;
    while at < end {
        // The largest block that begins here: no higher than its place allows.
        let mut size = match at {
            0 => leaves.next_power_of_two(),
            at => 1 << at.trailing_zeros(),
        };
        while (at + size).min(leaves) > end {
            size /= 2;
        }
        let node = at..(at + size).min(leaves);
        at = node.end;
        nodes.push(node);
    }
    nodes
}

/// A sum under way: nodes whose neighbours are still awaited, at most one a level.
#[derive(Debug)]
pub struct Tree<T> {
    leaves: usize,
    nodes: Vec<(Range<usize>, T)>,
}

impl<T> Tree<T> {
    /// Over so many leaves.
    pub fn new(leaves: usize) -> Self {
        let nodes = Vec::new();
        Self { leaves, nodes }
    }

    /// Takes the sum of the next node, a leaf `i..i + 1` or one that others have completed, and
    /// adds up what is complete by it: `add` adds the right one to the left.
    ///
    /// # Errors
    /// As `add`.
    pub fn add<E>(
        &mut self,
        node: Range<usize>,
        value: T,
        mut add: impl FnMut(&mut T, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut node, mut value) = (node, value);
        while let Some((left, mut sum)) = self.nodes.pop() {
            if !self.are_neighbours(&left, &node) {
                self.nodes.push((left, sum));
                break;
            }
            add(&mut sum, value)?;
            (node, value) = (left.start..node.end, sum);
        }
        self.nodes.push((node, value));
        Ok(())
    }

    /// The sums that are there, in order: one, over all leaves, once all were added; of a part
    /// of them those of [`completed`].
    pub fn into_nodes(self) -> Vec<(Range<usize>, T)> {
        self.nodes
    }

    /// The sum over all leaves; `None` while some are awaited.
    pub fn total(self) -> Option<T> {
        let whole = 0..self.leaves;
        let mut nodes = self.nodes.into_iter();
        match (nodes.next(), nodes.next()) {
            (Some((node, sum)), None) if node == whole => Some(sum),
            _ => None,
        }
    }

    /// Whether two nodes are the halves of one.
    fn are_neighbours(&self, left: &Range<usize>, right: &Range<usize>) -> bool {
        let size = (right.end - left.start).next_power_of_two();
        left.end == right.start
            && left.start.is_multiple_of(size)
            && left.len() == size / 2
            && right.end == (left.start + size).min(self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn in_words(sum: &mut String, right: String) -> Result<(), Infallible> {
        *sum = format!("({sum}{right})");
        Ok(())
    }

    fn names(tree: Tree<String>) -> Vec<String> {
        tree.into_nodes().into_iter().map(|(_, sum)| sum).collect()
    }

    fn of_leaves(leaves: usize, range: Range<usize>) -> Tree<String> {
        let mut tree = Tree::new(leaves);
        for leaf in range {
            let name = char::from(b'a' + leaf as u8).to_string();
            tree.add(leaf..leaf + 1, name, in_words).expect("added");
        }
        tree
    }

    #[test]
    fn neighbours_are_added_and_an_odd_one_is_passed_up() {
        for (leaves, want) in [
            (1, "a"),
            (2, "(ab)"),
            (3, "((ab)c)"),
            (4, "((ab)(cd))"),
            (5, "(((ab)(cd))e)"),
            (6, "(((ab)(cd))(ef))"),
            (7, "(((ab)(cd))((ef)g))"),
            (9, "((((ab)(cd))((ef)(gh)))i)"),
        ] {
            let sum = of_leaves(leaves, 0..leaves).total();
            assert_eq!(sum.as_deref(), Some(want));
        }
        assert_eq!(of_leaves(4, 0..3).total(), None);
        assert_eq!(names(of_leaves(4, 0..3)), ["(ab)", "c"]);
    }

    /// However the leaves are dealt to however many, the sum is the same one.
    #[test]
    fn the_sum_does_not_depend_on_who_adds_which_leaves() {
        for leaves in 1..=17 {
            let want = of_leaves(leaves, 0..leaves).total();
            for (a, b) in (0..=leaves).flat_map(|a| (a..=leaves).map(move |b| (a, b))) {
                let mut tree = Tree::new(leaves);
                for range in [0..a, a..b, b..leaves] {
                    let part = of_leaves(leaves, range.clone()).into_nodes();
                    let nodes: Vec<_> = part.iter().map(|(node, _)| node.clone()).collect();
                    assert_eq!(nodes, completed(leaves, range));
                    for (node, sum) in part {
                        tree.add(node, sum, in_words).expect("added");
                    }
                }
                assert_eq!(tree.total(), want, "{leaves} leaves at {a} and {b}");
            }
        }
    }
}
