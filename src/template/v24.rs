//! Dovecot 2.4's syntax: `%{user | filter(arguments) % number | …}`.

use super::error::{Problem, TemplateError};
use super::expr::{Arithmetic, Op, Part, Source, Var};
use super::filters::{self, Argument, Call};
use super::lex24::{Token, Word, words};
use super::names;

/// One `%{…}`, written `raw`, at `column`.
pub(super) fn variable(raw: &str, column: usize) -> Result<Part, TemplateError> {
    let inside = raw
        .strip_prefix("%{")
        .and_then(|raw| raw.strip_suffix('}'))
        .unwrap_or(raw);
    let tokens = words(inside, column, raw)?;
    let mut parser = Parser {
        tokens: &tokens,
        inside,
        column,
        raw,
    };
    let (from, mut ops) = parser.start()?;
    parser.math(&mut ops)?;
    while !parser.tokens.is_empty() {
        parser.expect('|')?;
        let call = parser.call()?;
        ops.push(filters::op(call)?);
        parser.math(&mut ops)?;
    }
    Ok(Part::Var(Var {
        column,
        text: raw.to_owned(),
        from,
        ops,
    }))
}

struct Parser<'a> {
    tokens: &'a [Token],
    inside: &'a str,
    column: usize,
    raw: &'a str,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a Word> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(&first.word)
    }

    /// Column of the next word.
    fn here(&self) -> usize {
        let at = self
            .tokens
            .first()
            .map_or(self.inside.len(), |token| token.at);
        self.column + 2 + self.inside[..at].chars().count()
    }

    fn wrong(&self, expected: &str) -> TemplateError {
        let found = match self.tokens.first().map(|token| &token.word) {
            None => "ends".to_owned(),
            Some(Word::Name(name)) => format!("has `{name}`"),
            Some(Word::Number(number)) => format!("has `{number}`"),
            Some(Word::Sign(sign)) => format!("has `{sign}`"),
            Some(Word::Text(_)) => "has a string".to_owned(),
        };
        let what = format!(
            "{found} at column {} where {expected} should be",
            self.here()
        );
        TemplateError::new(
            Problem::Syntax,
            (self.column, self.raw),
            what,
            "write it as %{user | filter(arguments) | …}",
        )
    }

    fn eat(&mut self, sign: char) -> bool {
        let found = self
            .tokens
            .first()
            .is_some_and(|token| token.word == Word::Sign(sign));
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, sign: char) -> Result<(), TemplateError> {
        if self.eat(sign) {
            Ok(())
        } else {
            Err(self.wrong(&format!("`{sign}`")))
        }
    }

    /// The first word: the variable, or a filter that makes a value of its own.
    fn start(&mut self) -> Result<(Source, Vec<Op>), TemplateError> {
        let (column, call) = (self.here(), self.call()?);
        if call.name == "user" && call.arguments.is_none() {
            return Ok((Source::User, Vec::new()));
        }
        if matches!(call.name, "literal" | "concat" | "default") {
            return Ok((Source::Const(Vec::new()), vec![filters::op(call)?]));
        }
        let place = (column, call.name);
        if call.name == "user" {
            let what = "is a variable and takes no arguments";
            return Err(TemplateError::new(
                Problem::Syntax,
                place,
                what,
                "leave the brackets out",
            ));
        }
        if matches!(call.name, "username" | "domain") {
            let mend = format!("write %{{user | {}}}", call.name);
            return Err(TemplateError::new(
                Problem::Unknown,
                place,
                "is a filter in Dovecot 2.4, not a variable",
                mend,
            ));
        }
        if filters::exists(call.name) {
            return Err(TemplateError::new(
                Problem::Syntax,
                place,
                "is a filter and has no value to work on",
                "begin with %{user | …}",
            ));
        }
        Err(names::refuse(call.name, place))
    }

    /// A name and its arguments in brackets, if any.
    fn call(&mut self) -> Result<Call<'a>, TemplateError> {
        let column = self.here();
        let Some(Token {
            word: Word::Name(name),
            ..
        }) = self.tokens.first()
        else {
            return Err(self.wrong("a variable or filter"));
        };
        self.next();
        let arguments = if self.eat('(') {
            Some(self.arguments()?)
        } else {
            None
        };
        Ok(Call {
            name,
            column,
            arguments,
        })
    }

    fn arguments(&mut self) -> Result<Vec<(Option<String>, Argument)>, TemplateError> {
        let mut arguments: Vec<(Option<String>, Argument)> = Vec::new();
        loop {
            let key = match self.tokens {
                [
                    Token {
                        word: Word::Name(name),
                        ..
                    },
                    Token {
                        word: Word::Sign('='),
                        ..
                    },
                    ..,
                ] => Some(name.to_ascii_lowercase()),
                _ => None,
            };
            if key.is_some() {
                self.next();
                self.next();
            }
            if key.is_some() && arguments.iter().any(|(known, _)| *known == key) {
                return Err(self.wrong("no second argument of that name"));
            }
            let value = self.argument()?;
            arguments.push((key, value));
            if self.eat(')') {
                return Ok(arguments);
            }
            self.expect(',')?;
        }
    }

    fn argument(&mut self) -> Result<Argument, TemplateError> {
        let column = self.here();
        match self.tokens.first().map(|token| &token.word) {
            Some(Word::Text(text)) => {
                self.next();
                Ok(Argument::Text(text.clone()))
            }
            Some(Word::Name(name)) => {
                self.next();
                if name == "user" {
                    let var = Var {
                        column,
                        text: name.clone(),
                        from: Source::User,
                        ops: Vec::new(),
                    };
                    return Ok(Argument::Variable(var));
                }
                Err(names::refuse(name, (column, name)))
            }
            _ => Ok(Argument::Number(self.number()?)),
        }
    }

    fn number(&mut self) -> Result<i64, TemplateError> {
        let sign = if self.eat('-') { "-" } else { "" };
        let Some(Token {
            word: Word::Number(digits),
            ..
        }) = self.tokens.first()
        else {
            return Err(self.wrong("a number"));
        };
        let number = format!("{sign}{digits}")
            .parse()
            .map_err(|_| self.wrong("a number of 64 bits"))?;
        self.next();
        Ok(number)
    }

    /// `+ - * / %` and a number, once, as in Dovecot.
    fn math(&mut self, ops: &mut Vec<Op>) -> Result<(), TemplateError> {
        let how = match self.tokens.first().map(|token| &token.word) {
            Some(Word::Sign('+')) => Arithmetic::Add,
            Some(Word::Sign('-')) => Arithmetic::Subtract,
            Some(Word::Sign('*')) => Arithmetic::Multiply,
            Some(Word::Sign('/')) => Arithmetic::Divide,
            Some(Word::Sign('%')) => Arithmetic::Modulo,
            _ => return Ok(()),
        };
        self.next();
        let place = (self.column, self.raw);
        let by = self.number()?;
        if by <= 0 && matches!(how, Arithmetic::Divide | Arithmetic::Modulo) {
            return Err(TemplateError::new(
                Problem::Range,
                place,
                format!("divides by {by}"),
                "divide by a positive number",
            ));
        }
        ops.push(Op::Calculate(how, by));
        Ok(())
    }
}
