//! Ranks the indices of groups against each other, and turns a ratio into what stays.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::matching::{Verdict, readers};
use super::{Entry, Scope, SelectOptions};
use crate::criterion::Scores;
use crate::graph::{Graph, NodeId};
use crate::group::{Group, GroupId, Groups, Keeps, Kind, Role, Slice};
use crate::{Error, Result};

/// The groups that may be cut, in classes that are ranked together.
pub(super) struct Ranking<'a> {
    options: &'a SelectOptions,
    members: Vec<Member>,
    classes: Vec<Class>,
    /// Groups that are left alone, and why.
    left: BTreeMap<GroupId, String>,
}

/// A group that may be cut.
struct Member {
    group: GroupId,
    size: usize,
    /// What it had before the first stage: ratios are ratios of that.
    whole: usize,
    /// The least that must stay: a multiple of what was asked for.
    least: usize,
    /// The most that can stay: what earlier steps have left.
    most: usize,
    /// All indices, each after what sorts it: the least goes first.
    ranks: Vec<(i64, Reverse<u32>)>,
}

/// Groups that are ranked together.
struct Class {
    /// The ratio of their own.
    ratio: Option<f64>,
    members: Vec<usize>,
    /// The member that loses an index, step by step.
    order: Vec<usize>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum ClassKey {
    Group(GroupId),
    All,
    Structure(Structure),
}

/// Kind, and role, reader, axis and rank of every slice, sorted.
type Structure = (Kind, Vec<(Role, String, usize, usize)>);

impl<'a> Ranking<'a> {
    pub(super) fn new(
        graph: &Graph,
        groups: &Groups,
        scores: &Scores,
        verdicts: &[Verdict],
        keeps: &Keeps,
        options: &'a SelectOptions,
    ) -> Self {
        let mut ranking =
            Ranking { options, members: Vec::new(), classes: Vec::new(), left: BTreeMap::new() };
        let mut classes: BTreeMap<ClassKey, (Option<f64>, Vec<usize>)> = BTreeMap::new();
        let readers = match options.scope {
            Scope::Isomorphic => readers(graph),
            Scope::Uniform | Scope::Global => Vec::new(),
        };
        for ((id, group), verdict) in groups.iter().zip(verdicts) {
            let found = ranking.member(id, group, scores, verdict, keeps);
            let (member, ratio) = match found {
                Ok(found) => found,
                Err(why) => {
                    ranking.left.insert(id, why);
                    continue;
                }
            };
            let key = match options.scope {
                Scope::Uniform => ClassKey::Group(id),
                _ if ratio.is_some() => ClassKey::Group(id),
                Scope::Global => ClassKey::All,
                Scope::Isomorphic => ClassKey::Structure(structure(graph, &readers, group)),
            };
            classes.entry(key).or_insert((ratio, Vec::new())).1.push(ranking.members.len());
            ranking.members.push(member);
        }
        for (ratio, members) in classes.into_values() {
            let order = ranking.order(&members);
            ranking.classes.push(Class { ratio, members, order });
        }
        ranking
    }

    fn member(
        &self,
        id: GroupId,
        group: &Group,
        scores: &Scores,
        verdict: &Verdict,
        keeps: &Keeps,
    ) -> std::result::Result<(Member, Option<f64>), String> {
        let ratio = match verdict {
            Verdict::Cut(ratio) => *ratio,
            Verdict::Leave(why) => return Err(why.clone()),
        };
        let found = scores.get(id).filter(|scores| scores.len() == group.size);
        let found = found.ok_or_else(|| scores.missing().to_string())?;
        let multiple = self.options.multiple_of;
        if group.size < multiple {
            return Err(format!("fewer indices than --multiple-of {multiple}"));
        }
        let sizes = self.options.stage.iter().flat_map(|stage| stage.sizes.get(&group.name));
        let whole = sizes.copied().next().unwrap_or(0).max(group.size);
        let cap = (whole as f64 * (1.0 - self.options.max_ratio) - 1e-9).ceil() as usize;
        let least = cap.max(1).next_multiple_of(multiple);
        if least > group.size && whole == group.size {
            return Err(format!("--max-ratio leaves no multiple of {multiple} to keep"));
        }
        let ranks = found.iter().zip(0..).map(|(&score, index)| (ordered(score), Reverse(index)));
        let ranks = ranks.collect();
        let most = keeps.get(&id).map_or(group.size, Vec::len);
        Ok((Member { group: id, size: group.size, whole, least, most, ranks }, ratio))
    }

    fn order(&self, members: &[usize]) -> Vec<usize> {
        if let &[only] = members {
            return vec![only; self.members[only].size];
        }
        let mut order = Vec::new();
        for &member in members {
            order.extend(self.members[member].ranks.iter().map(|&(score, _)| (score, member)));
        }
        order.sort_unstable();
        order.into_iter().map(|(_, member)| member).collect()
    }

    /// Whether something can be cut.
    ///
    /// # Errors
    /// When every group is left alone; why.
    pub(super) fn check(&self) -> Result<()> {
        if !self.members.is_empty() {
            return Ok(());
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for why in self.left.values() {
            *counts.entry(why).or_default() += 1;
        }
        let reasons: Vec<String> = counts.iter().map(|(why, n)| format!("{why} ({n})")).collect();
        Err(match reasons.is_empty() {
            true => Error::unreachable("the model has no group that can be cut"),
            false => Error::unreachable(format!("no group can be cut: {}", reasons.join("; ")))
                .hint(
                    "keep less with --keep, allow more with --kinds, or choose another --criterion",
                ),
        })
    }

    /// How many indices every member keeps. `progress` scales all ratios.
    pub(super) fn counts(&self, ratio: f64, progress: f64) -> Vec<usize> {
        let mut counts: Vec<usize> = self.members.iter().map(|member| member.size).collect();
        for class in &self.classes {
            let whole: usize = class.members.iter().map(|&at| self.members[at].whole).sum();
            let stays = whole as f64 * (1.0 - self.ratio(class, ratio) * progress);
            let mut budget = class.order.len().saturating_sub(stays.round() as usize);
            for &member in &class.order {
                if budget == 0 {
                    break;
                }
                if counts[member] > self.members[member].least {
                    counts[member] -= 1;
                    budget -= 1;
                }
            }
        }
        let round =
            |(count, member): (usize, &Member)| member.round(count, self.options.multiple_of);
        counts.into_iter().zip(&self.members).map(round).collect()
    }

    /// The ratio of a class at the end of this stage.
    fn ratio(&self, class: &Class, common: f64) -> f64 {
        class.ratio.map_or(common, |own| own * self.options.part())
    }

    /// Members that follow the common ratio and can keep more than `counts` says, and how many these
    /// would be at the next multiple; the one first whose next index matters most.
    pub(super) fn more(&self, counts: &[usize]) -> Vec<(usize, usize)> {
        let follows = self.classes.iter().filter(|class| class.ratio.is_none());
        let mut found: Vec<_> = follows
            .flat_map(|class| &class.members)
            .filter_map(|&at| {
                let (member, count) = (&self.members[at], counts[at]);
                let more = member.round(count + self.options.multiple_of, self.options.multiple_of);
                (more > count).then(|| (Reverse(member.next(count)), at, more))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, at, more)| (at, more)).collect()
    }

    /// The groups that lose something, and what is left of them.
    fn cut<'c>(&'c self, counts: &'c [usize]) -> impl Iterator<Item = (&'c Member, usize)> {
        let counts = self.members.iter().zip(counts.iter().copied());
        counts.filter(|(member, count)| *count < member.size)
    }

    /// The sizes of the groups that lose something.
    pub(super) fn sizes(&self, counts: &[usize]) -> BTreeMap<GroupId, usize> {
        self.cut(counts).map(|(member, count)| (member.group, count)).collect()
    }

    /// The indices that stay, of the groups that lose something.
    pub(super) fn keeps(&self, counts: &[usize]) -> Keeps {
        self.cut(counts).map(|(member, count)| (member.group, member.last(count))).collect()
    }

    /// One entry per group, in order.
    pub(super) fn entries(&self, counts: &[usize], ratio: f64, progress: f64) -> Vec<Entry> {
        let left = self.left.iter().map(|(&group, why)| Entry {
            group,
            asked: 0.0,
            reached: 0.0,
            why: Some(why.clone()),
        });
        let mut entries: Vec<Entry> = left.collect();
        for class in &self.classes {
            let asked = self.ratio(class, ratio) * progress;
            let alone = class.members.len() == 1;
            let entry =
                |&at: &usize| self.members[at].entry(asked, counts[at], alone, self.options);
            entries.extend(class.members.iter().map(entry));
        }
        entries.sort_by_key(|entry| entry.group);
        entries
    }
}

impl Member {
    /// The indices that stay when `count` do, sorted.
    fn last(&self, count: usize) -> Vec<u32> {
        let mut ranks = self.ranks.clone();
        let gone = ranks.len() - count;
        let kept = match gone.checked_sub(1) {
            Some(last) => ranks.select_nth_unstable(last).2,
            None => &mut ranks[..],
        };
        let mut stays = vec![false; self.size];
        kept.iter().for_each(|&(_, Reverse(index))| stays[index as usize] = true);
        (0..self.size as u32).filter(|&index| stays[index as usize]).collect()
    }

    /// What sorts the index that would stay next where `count` do.
    fn next(&self, count: usize) -> Option<(i64, Reverse<u32>)> {
        let mut ranks = self.ranks.clone();
        let last = (ranks.len() - count).checked_sub(1)?;
        Some(*ranks.select_nth_unstable(last).1)
    }

    /// The nearest multiple within bounds; all, where that is nearer than any multiple.
    fn round(&self, count: usize, multiple: usize) -> usize {
        if count == self.size {
            return self.most;
        }
        let below = (count / multiple) * multiple;
        let nearest = if (count - below) * 2 >= multiple { below + multiple } else { below };
        let bounded = if nearest > self.size { self.size } else { nearest.max(self.least) };
        bounded.min(self.most)
    }

    fn entry(&self, asked: f64, count: usize, alone: bool, options: &SelectOptions) -> Entry {
        let reached = 1.0 - count as f64 / self.whole as f64;
        let short = alone && reached + 0.5 / (self.whole as f64) < asked;
        let why = if count == self.least && options.max_ratio < 1.0 && (short || !alone) {
            Some(format!("no more than --max-ratio {} may go", options.max_ratio))
        } else if short && options.multiple_of > 1 {
            Some(format!("rounded to a multiple of {}", options.multiple_of))
        } else if count == 1 && (short || !alone) {
            Some("one index always stays".to_string())
        } else {
            None
        };
        Entry { group: self.group, asked, reached, why }
    }
}

/// A number that compares as the score does by [`f64::total_cmp`].
fn ordered(score: f64) -> i64 {
    let bits = score.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The structure of a group, as far as a shared ranking asks for; `readers` are those of every
/// parameter.
fn structure(graph: &Graph, readers: &[Vec<NodeId>], group: &Group) -> Structure {
    let slice = |slice: &Slice| {
        let reader = readers[slice.param.index()].first();
        let kind = reader.map(|&node| graph.node(node).kind.clone()).unwrap_or_default();
        (slice.role, kind, slice.axis, graph.param(slice.param).shape.len())
    };
    let mut slices: Vec<_> = group.slices.iter().map(slice).collect();
    slices.sort();
    (group.kind, slices)
}
