//! The way back: where in a path the user name, or its two halves, can be read.
//!
//! A piece of the name can be read where all else in its directory's name has a fixed length, or where an `@` divides
//! the local part, which has none, from the domain. What is read is only a guess: the layout expands it and compares.

use super::component::{Component, Traced};
use super::error::{Problem, TemplateError};
use super::trace::{Case, Form, Info, Piece};

/// How to guess the name, and what that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inverse {
    pub known: Info,
    plan: Plan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    /// The full name, or the local part where that is all there is
    One(Slot),
    /// Local part and domain
    Two(Slot, Slot),
}

/// A place to read a piece from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    level: usize,
    piece: Piece,
    case: Case,
    /// Bytes before and after it, or after the half of which it is part
    before: usize,
    after: usize,
    split: Option<Split>,
}

/// The directory's name holds both halves, with an `@` between.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Split {
    /// The half is what comes before the `@`
    left: bool,
    /// The `@` is the first one (the local part comes first) or the last
    first: bool,
    /// Bytes between the half and the `@`
    gap: usize,
}

impl Slot {
    fn read<'a>(&self, components: &[&'a [u8]]) -> Option<&'a [u8]> {
        let name = *components.get(self.level)?;
        let inner = name.get(self.before..name.len().checked_sub(self.after)?)?;
        let Some(split) = &self.split else {
            return Some(inner);
        };
        let is_at = |byte: &u8| *byte == b'@';
        let at = if split.first {
            inner.iter().position(is_at)
        } else {
            inner.iter().rposition(is_at)
        }?;
        if split.left {
            inner.get(..at.checked_sub(split.gap)?)
        } else {
            inner.get(at + 1 + split.gap..)
        }
    }
}

impl Inverse {
    /// Finds the best way back, or says why there is none.
    pub fn of(levels: &[Component]) -> Result<Self, TemplateError> {
        let slots: Vec<Slot> = levels
            .iter()
            .enumerate()
            .flat_map(|(at, level)| slots(at, level))
            .collect();
        let candidates = candidates(&slots);
        let Some(first) = candidates.first() else {
            return Err(no_way(levels));
        };
        let needs = || levels.iter().flat_map(|level| &level.parts);
        match candidates
            .iter()
            .find(|candidate| needs().all(|part| candidate.known.covers(part.need)))
        {
            Some(found) => Ok(found.clone()),
            None => match needs().find(|part| !first.known.covers(part.need)) {
                Some(part) => Err(unknown(part, first.known)),
                None => Ok(first.clone()),
            },
        }
    }

    /// The guess; never a wrong guess for a path that is some user's.
    pub fn name(&self, components: &[&[u8]]) -> Option<Vec<u8>> {
        match &self.plan {
            Plan::One(slot) => Some(slot.read(components)?.to_vec()),
            Plan::Two(local, domain) => {
                // `a` and `a@` have the same halves: neither is found
                let domain = domain
                    .read(components)
                    .filter(|domain| !domain.is_empty())?;
                Some([local.read(components)?, b"@", domain].concat())
            }
        }
    }
}

/// All ways back, the one that tells most first.
fn candidates(slots: &[Slot]) -> Vec<Inverse> {
    let best = |piece| {
        slots
            .iter()
            .filter(|slot| slot.piece == piece)
            .max_by_key(|slot| slot.case)
    };
    let one = |slot: &Slot, known| Inverse {
        known,
        plan: Plan::One(slot.clone()),
    };
    let mut out = Vec::new();
    if let Some(slot) = best(Piece::Whole) {
        out.push(one(
            slot,
            Info {
                local: Some(slot.case),
                domain: Some(slot.case),
            },
        ));
    }
    if let (Some(local), Some(domain)) = (best(Piece::Local), best(Piece::Domain)) {
        let known = Info {
            local: Some(local.case),
            domain: Some(domain.case),
        };
        out.push(Inverse {
            known,
            plan: Plan::Two(local.clone(), domain.clone()),
        });
    }
    if let Some(slot) = best(Piece::Local) {
        out.push(one(
            slot,
            Info {
                local: Some(slot.case),
                domain: None,
            },
        ));
    }
    out
}

/// What can be read from one directory's name: a piece alone among fixed lengths, or both halves with an `@` between.
fn slots(level: usize, component: &Component) -> Vec<Slot> {
    let parts = &component.parts;
    let free: Vec<usize> = (0..parts.len())
        .filter(|&at| parts[at].fixed_len().is_none())
        .collect();
    let len = |parts: &[Traced]| parts.iter().filter_map(Traced::fixed_len).sum::<usize>();
    let slot = |at: usize, piece, case, split| {
        let (first, last) = (free.first().unwrap_or(&at), free.last().unwrap_or(&at));
        let (before, after) = (len(&parts[..*first]), len(&parts[last + 1..]));
        Slot {
            level,
            piece,
            case,
            before,
            after,
            split,
        }
    };
    let piece = |at: usize| match parts[at].form {
        Form::Piece(piece, case) => Some((piece, case)),
        _ => None,
    };
    let found = match *free.as_slice() {
        [one] => piece(one).map(|(piece, case)| vec![slot(one, piece, case, None)]),
        [left, right] => piece(left)
            .zip(piece(right))
            .and_then(|((a, case_a), (b, case_b))| {
                let (to_left, to_right, first) = divider(a, &parts[left + 1..right], b)?;
                let (to_left, to_right) = (
                    Split {
                        left: true,
                        first,
                        gap: to_left,
                    },
                    Split {
                        left: false,
                        first,
                        gap: to_right,
                    },
                );
                Some(vec![
                    slot(left, a, case_a, Some(to_left)),
                    slot(right, b, case_b, Some(to_right)),
                ])
            }),
        _ => None,
    };
    found.unwrap_or_default()
}

/// Where an `@` divides two halves: the bytes before and after it between them, and whether it is the first in the name.
/// The local part has none, so it is the divider's first if that part comes first, else the divider's last.
fn divider(left: Piece, between: &[Traced], right: Piece) -> Option<(usize, usize, bool)> {
    let first = match (left, right) {
        (Piece::Local, Piece::Domain) => true,
        (Piece::Domain, Piece::Local) => false,
        _ => return None,
    };
    let texts = between.iter().map(|part| match &part.form {
        Form::Fixed(text) => Some(text.as_slice()),
        _ => None,
    });
    let text = texts.collect::<Option<Vec<&[u8]>>>()?.concat();
    let is_at = |byte: &u8| *byte == b'@';
    let at = if first {
        text.iter().position(is_at)
    } else {
        text.iter().rposition(is_at)
    }?;
    Some((at, text.len() - at - 1, first))
}

/// Why a layout has no way back.
fn no_way(levels: &[Component]) -> TemplateError {
    const MEND: &str = "end the layout with the user name, as in %2.256Nu/%u or %d/%n";
    let parts = || levels.iter().flat_map(|level| &level.parts);
    let crowded = levels.iter().find(|level| {
        level
            .parts
            .iter()
            .any(|part| matches!(part.form, Form::Piece(..)))
            && level
                .parts
                .iter()
                .filter(|part| part.fixed_len().is_none())
                .count()
                > 1
    });
    if let Some(level) = crowded {
        let mend =
            "give each a level of its own, put an @ between %n and %d, and give hashes a width";
        let what = "does not tell where one variable ends and the next begins, so one path may come from two users";
        return TemplateError::new(
            Problem::Ambiguous,
            (level.column, &level.text()),
            what,
            mend,
        );
    }
    let wrong = |part: &Traced, what: &str| {
        TemplateError::new(Problem::NoWayBack, part.place(), what, MEND)
    };
    if let Some(part) = parts().find(|part| matches!(part.form, Form::Piece(Piece::Domain, _))) {
        return wrong(part, "gives the domain, and nothing gives the local part");
    }
    if let Some(part) = parts().find(|part| part.form == Form::Other) {
        return wrong(
            part,
            "gives only some of the name, which cannot be turned back",
        );
    }
    if let Some(part) = parts().find(|part| matches!(part.form, Form::Digest(_))) {
        return wrong(part, "is a hash, which cannot be turned back into the name");
    }
    let text: Vec<String> = levels.iter().map(Component::text).collect();
    TemplateError::new(
        Problem::NoWayBack,
        (1, &text.join("/")),
        "is the same for every user",
        MEND,
    )
}

/// The error for a part of the layout or of INDEX that needs more of the name than the layout tells.
pub(super) fn unknown(part: &Traced, known: Info) -> TemplateError {
    if part.need.domain.is_some() && known.domain.is_none() {
        let what = "needs the domain, and the layout tells only the local part";
        let mend = "make it from %n (2.4: %{user | username}), or put %u or %d into the layout";
        return TemplateError::new(Problem::Mismatch, part.place(), what, mend);
    }
    let what = "needs the name's case, and the layout folds it";
    let mend = "fold it here as well (2.3: L or U before N, M, H or the variable; 2.4: `| lower` before the hash), or not in the layout";
    TemplateError::new(Problem::Mismatch, part.place(), what, mend)
}
