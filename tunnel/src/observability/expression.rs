//! Expressions in CEL, which the agent has taken apart: what is left is to work them out.

use std::borrow::Cow;

use regex::bytes::Regex;

use super::attribute::{Attribute, Attributes, Value};
use super::proto::{self, Operator};
use crate::routes::re2;

/// How deep operators may be within each other.
const DEEPEST: usize = 64;

#[derive(Clone, Debug)]
pub enum Expression {
    Constant(Value<'static>),
    Attribute(Attribute),
    /// Of the request.
    Header(Box<str>),
    Matches(Box<Expression>, Regex),
    Operation(Operator, Box<[Expression]>),
}

impl Expression {
    pub fn decode(message: &proto::Expression) -> Result<Expression, String> {
        Self::within(message, DEEPEST)
    }

    fn within(message: &proto::Expression, depth: usize) -> Result<Expression, String> {
        let depth = depth.checked_sub(1).ok_or("an expression is nested too deeply")?;
        let operands = message.operands.iter().map(|operand| Self::within(operand, depth));
        let operands = operands.collect::<Result<Vec<_>, _>>()?;
        let text = message.text.as_str();
        let operator = Operator::try_from(message.operator).map_err(|error| error.to_string())?;
        Ok(match (operator, &operands[..]) {
            (Operator::Text, []) => Expression::Constant(Value::Text(text.to_owned().into())),
            (Operator::Number, []) => Expression::Constant(Value::Number(message.number)),
            (Operator::True, []) => Expression::Constant(Value::Truth(true)),
            (Operator::False, []) => Expression::Constant(Value::Truth(false)),
            (Operator::Attribute, []) => {
                Expression::Attribute(Attribute::named(text).ok_or_else(|| format!("there is no attribute {text}"))?)
            }
            (Operator::Entry, [Expression::Constant(Value::Text(key))]) if text == "request.headers" => {
                Expression::Header((&**key).into())
            }
            (Operator::Matches, [value, Expression::Constant(Value::Text(pattern))]) => {
                Expression::Matches(Box::new(value.clone()), re2::anywhere(pattern)?)
            }
            (Operator::Condition, [_, _, _]) | (Operator::In, [_, ..]) => operation(operator, operands),
            (operator, [_]) if is_unary(operator) => operation(operator, operands),
            (operator, [_, _]) if is_binary(operator) => operation(operator, operands),
            _ => return Err(format!("{operator:?} does not take {} operands", operands.len())),
        })
    }

    /// Tells the names of the request's headers that it asks for.
    pub fn request_headers(&self, tell: &mut impl FnMut(&str)) {
        match self {
            Expression::Constant(_) => {}
            Expression::Attribute(attribute) => attribute.header().into_iter().for_each(tell),
            Expression::Header(name) => tell(name),
            Expression::Matches(value, _) => value.request_headers(tell),
            Expression::Operation(_, operands) => operands.iter().for_each(|operand| operand.request_headers(tell)),
        }
    }

    /// What it comes to. `Missing` where it asks for what is not there, or compares what cannot be.
    pub fn evaluate<'a>(&'a self, of: &'a dyn Attributes) -> Value<'a> {
        match self {
            Expression::Constant(value) => value.clone(),
            Expression::Attribute(attribute) => of.attribute(*attribute),
            Expression::Header(name) => of.request_header(name),
            Expression::Matches(value, pattern) => match value.evaluate(of) {
                Value::Text(text) => Value::Truth(pattern.is_match(text.as_bytes())),
                _ => Value::Missing,
            },
            Expression::Operation(operator, operands) => operate(*operator, operands, of),
        }
    }
}

fn operation(operator: Operator, operands: Vec<Expression>) -> Expression {
    Expression::Operation(operator, operands.into())
}

fn is_unary(operator: Operator) -> bool {
    matches!(operator, Operator::Not | Operator::Has | Operator::String | Operator::Int | Operator::Size)
}

fn is_binary(operator: Operator) -> bool {
    use Operator::*;
    matches!(
        operator,
        Or | And
            | Equal
            | NotEqual
            | Less
            | LessOrEqual
            | Greater
            | GreaterOrEqual
            | Contains
            | StartsWith
            | EndsWith
            | Add
    )
}

fn operate<'a>(operator: Operator, operands: &'a [Expression], of: &'a dyn Attributes) -> Value<'a> {
    let mut values = operands.iter().map(|operand| operand.evaluate(of));
    let mut next = || values.next().unwrap_or(Value::Missing);
    let first = next();
    match operator {
        // A side that decides does so whatever the other one is (CEL, "Logical operators").
        Operator::Or | Operator::And => {
            let decides = Value::Truth(operator == Operator::Or);
            let second = if first == decides { Value::Missing } else { next() };
            match first == decides || second == decides {
                true => decides,
                false if first.is_missing() || second.is_missing() => Value::Missing,
                false => Value::Truth(operator == Operator::And),
            }
        }
        Operator::Condition => match first {
            Value::Truth(true) => next(),
            Value::Truth(false) => values.nth(1).unwrap_or(Value::Missing),
            _ => Value::Missing,
        },
        Operator::Has => Value::Truth(!first.is_missing()),
        _ if first.is_missing() => Value::Missing,
        Operator::Not => match first {
            Value::Truth(truth) => Value::Truth(!truth),
            _ => Value::Missing,
        },
        Operator::String => Value::Text(first.to_string().into()),
        Operator::Int => number(&first),
        Operator::Size => match first {
            Value::Text(text) => Value::Number(text.chars().count() as f64),
            _ => Value::Missing,
        },
        Operator::In => Value::Truth(values.any(|value| value == first)),
        _ => combine(operator, first, next()),
    }
}

fn number(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Number(number) => Value::Number(number.trunc()),
        Value::Text(text) => text.trim().parse().map_or(Value::Missing, Value::Number),
        _ => Value::Missing,
    }
}

fn combine<'a>(operator: Operator, one: Value<'a>, other: Value<'a>) -> Value<'a> {
    let order = match (&one, &other) {
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) => one.partial_cmp(other),
        (Value::Truth(one), Value::Truth(other)) => Some(one.cmp(other)),
        _ => None,
    };
    let told = match operator {
        Operator::Equal => order.map(|order| order.is_eq()),
        Operator::NotEqual => order.map(|order| order.is_ne()),
        Operator::Less => order.map(|order| order.is_lt()),
        Operator::LessOrEqual => order.map(|order| order.is_le()),
        Operator::Greater => order.map(|order| order.is_gt()),
        Operator::GreaterOrEqual => order.map(|order| order.is_ge()),
        _ => return join(operator, one, other),
    };
    told.map_or(Value::Missing, Value::Truth)
}

fn join<'a>(operator: Operator, one: Value<'a>, other: Value<'a>) -> Value<'a> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if operator == Operator::Add => Value::Number(one + other),
        (Value::Text(one), Value::Text(other)) => match operator {
            Operator::Contains => Value::Truth(one.contains(&*other)),
            Operator::StartsWith => Value::Truth(one.starts_with(&*other)),
            Operator::EndsWith => Value::Truth(one.ends_with(&*other)),
            Operator::Add => Value::Text(Cow::Owned(one.into_owned() + &other)),
            _ => Value::Missing,
        },
        _ => Value::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Expression as Message;

    /// A request to /reviews, with one header.
    struct Asked;

    impl Attributes for Asked {
        fn attribute(&self, attribute: Attribute) -> Value<'_> {
            match attribute {
                Attribute::RequestPath => Value::text("/reviews"),
                Attribute::ResponseCode => Value::Number(503.0),
                Attribute::ConnectionMtls => Value::Truth(true),
                _ => Value::Missing,
            }
        }

        fn request_header(&self, name: &str) -> Value<'_> {
            Value::text(if name == "x-team" { "blue" } else { "" })
        }
    }

    fn of(operator: Operator, operands: Vec<Message>) -> Message {
        Message { operator: operator as i32, operands, ..Message::default() }
    }

    fn named(operator: Operator, text: &str) -> Message {
        Message { text: text.into(), ..of(operator, vec![]) }
    }

    fn text(text: &str) -> Message {
        named(Operator::Text, text)
    }

    fn attribute(name: &str) -> Message {
        named(Operator::Attribute, name)
    }

    fn number(number: f64) -> Message {
        Message { number, ..of(Operator::Number, vec![]) }
    }

    fn header(name: &str) -> Message {
        Message { operands: vec![text(name)], ..named(Operator::Entry, "request.headers") }
    }

    fn worked_out(message: &Message) -> String {
        match Expression::decode(message).unwrap().evaluate(&Asked) {
            Value::Missing => "missing".to_owned(),
            value => value.to_string(),
        }
    }

    #[test]
    fn operators_are_those_of_cel() {
        use Operator::*;
        let (mtls, missing) = (attribute("connection.mtls"), attribute("request.host"));
        let code = || attribute("response.code");
        let both = |operator, one: &Message, other: &Message| of(operator, vec![one.clone(), other.clone()]);
        for (message, expected) in [
            (both(GreaterOrEqual, &code(), &number(500.0)), "true"),
            (both(Less, &code(), &number(500.0)), "false"),
            (both(Equal, &code(), &text("503")), "missing"),
            (both(Equal, &of(String, vec![code()]), &text("503")), "true"),
            (both(Add, &text("a"), &header("x-team")), "ablue"),
            (both(Add, &number(1.0), &number(2.0)), "3"),
            (both(Or, &missing, &mtls), "true"),
            (both(Or, &mtls, &missing), "true"),
            (both(Or, &missing, &of(Not, vec![mtls.clone()])), "missing"),
            (both(And, &missing, &of(Not, vec![mtls.clone()])), "false"),
            (both(And, &mtls, &mtls), "true"),
            (both(And, &mtls, &missing), "missing"),
            (of(Has, vec![missing.clone()]), "false"),
            (of(Has, vec![header("x-team")]), "true"),
            (of(Condition, vec![of(Has, vec![missing.clone()]), missing.clone(), text("none")]), "none"),
            (of(Condition, vec![mtls.clone(), text("a"), text("b")]), "a"),
            (both(Contains, &attribute("request.path"), &text("view")), "true"),
            (both(StartsWith, &attribute("request.path"), &text("/r")), "true"),
            (both(EndsWith, &attribute("request.path"), &text("/r")), "false"),
            (both(Matches, &attribute("request.path"), &text("^/rev.*s$")), "true"),
            (both(Matches, &missing, &text("a")), "missing"),
            (of(In, vec![header("x-team"), text("red"), text("blue")]), "true"),
            (of(In, vec![missing.clone(), text("red")]), "missing"),
            (of(Size, vec![header("x-team")]), "4"),
            (of(Int, vec![text("7")]), "7"),
        ] {
            assert_eq!(worked_out(&message), expected, "{message:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let mut deep = text("a");
        for _ in 0..DEEPEST {
            deep = of(Operator::String, vec![deep]);
        }
        for message in [
            attribute("request.colour"),
            of(Operator::Nothing, vec![]),
            of(Operator::Or, vec![text("a")]),
            of(Operator::Matches, vec![text("a"), text("(")]),
            named(Operator::Entry, "request.headers"),
            deep,
        ] {
            assert!(Expression::decode(&message).is_err(), "{message:?}");
        }
    }
}
