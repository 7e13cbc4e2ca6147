//! A lint for the bounds checks: which shaders read or write an array at a place that a tensor's values say.
//!
//! A value that is loaded from storage is followed through arithmetic, variables and calls. It ends where it is bounded by one
//! that does not come from storage: `min(x, size)`, `x % size`, `x & mask`. A comparison does not end it, and what a loop
//! counts up to data is data.

use std::collections::{HashMap, HashSet};

use naga::{
    AddressSpace, BinaryOperator, Block, Expression, Function, GlobalVariable, Handle, LocalVariable, MathFunction,
    Module, Statement,
};

use crate::uniformity::operands;

/// The function of the shader that indexes an array by what it loaded from storage, where there is one.
pub fn index_from_data(module: &Module) -> Option<String> {
    let mut analysis = Analysis { module, shared: HashSet::new(), found: None };
    let entry = &module.entry_points[0].function;
    // Workgroup memory starts clean and loses it: repeat until none does.
    loop {
        let before = analysis.shared.len();
        analysis.function(entry, &vec![false; entry.arguments.len()]);
        if analysis.shared.len() == before {
            return analysis.found;
        }
    }
}

struct Analysis<'a> {
    module: &'a Module,
    /// Variables that invocations share and that hold data.
    shared: HashSet<Handle<GlobalVariable>>,
    found: Option<String>,
}

/// A function's walk: what of it holds data.
struct Walk<'a> {
    function: &'a Function,
    arguments: &'a [bool],
    locals: HashSet<Handle<LocalVariable>>,
    calls: HashMap<Handle<Expression>, bool>,
    result: bool,
}

/// What a pointer points into.
enum Root {
    Global(Handle<GlobalVariable>),
    Local(Handle<LocalVariable>),
    Argument,
}

impl Analysis<'_> {
    /// Whether the result is data, where the arguments marked are.
    fn function(&mut self, function: &Function, arguments: &[bool]) -> bool {
        let mut walk = Walk { function, arguments, locals: HashSet::new(), calls: HashMap::new(), result: false };
        // Locals start clean and lose it: repeat until none does.
        loop {
            let before = walk.locals.len();
            self.block(&mut walk, &function.body);
            if walk.locals.len() == before {
                break;
            }
        }
        for (_, expression) in function.expressions.iter() {
            if let Expression::Access { base, index } = expression
                && walk.root(*base).is_some()
                && self.is_data(&walk, *index)
            {
                self.found.get_or_insert_with(|| function.name.clone().unwrap_or_else(|| "main".to_owned()));
            }
        }
        walk.result
    }

    fn block(&mut self, walk: &mut Walk<'_>, block: &Block) {
        for statement in block {
            match statement {
                Statement::Store { pointer, value } if self.is_data(walk, *value) => match walk.root(*pointer) {
                    Some(Root::Local(local)) => drop(walk.locals.insert(local)),
                    Some(Root::Global(global)) => drop(self.shared.insert(global)),
                    _ => {}
                },
                Statement::Call { function, arguments, result } => {
                    let given: Vec<bool> = arguments.iter().map(|argument| self.is_data(walk, *argument)).collect();
                    let is_data = self.function(&self.module.functions[*function], &given);
                    if let Some(result) = result {
                        walk.calls.insert(*result, is_data);
                    }
                    // What is passed by pointer may be written.
                    let pointers = arguments.iter().filter_map(|argument| walk.root(*argument));
                    let locals: Vec<_> = pointers
                        .filter_map(|root| if let Root::Local(local) = root { Some(local) } else { None })
                        .collect();
                    walk.locals.extend(locals);
                }
                Statement::Return { value: Some(value) } => walk.result |= self.is_data(walk, *value),
                Statement::Block(inner) => self.block(walk, inner),
                Statement::If { condition, accept, reject } => {
                    if accept.iter().chain(reject).any(|inner| matches!(inner, Statement::Break)) {
                        self.counted_to_data(walk, *condition);
                    }
                    self.block(walk, accept);
                    self.block(walk, reject);
                }
                Statement::Switch { cases, .. } => cases.iter().for_each(|case| self.block(walk, &case.body)),
                Statement::Loop { body, continuing, .. } => {
                    self.block(walk, body);
                    self.block(walk, continuing);
                }
                _ => {}
            }
        }
    }

    /// Marks the variables that a loop's condition compares with data.
    fn counted_to_data(&self, walk: &mut Walk<'_>, condition: Handle<Expression>) {
        let function = walk.function;
        match &function.expressions[condition] {
            Expression::Binary { op: BinaryOperator::LogicalAnd | BinaryOperator::LogicalOr, left, right } => {
                self.counted_to_data(walk, *left);
                self.counted_to_data(walk, *right);
            }
            Expression::Binary { op, left, right }
                if is_comparison(*op) && (self.is_data(walk, *left) || self.is_data(walk, *right)) =>
            {
                walk.mark_variables(*left);
                walk.mark_variables(*right);
            }
            Expression::Unary { expr, .. } => self.counted_to_data(walk, *expr),
            _ => {}
        }
    }

    fn is_data(&self, walk: &Walk<'_>, expression: Handle<Expression>) -> bool {
        let is_data = |operand: &Handle<Expression>| self.is_data(walk, *operand);
        match &walk.function.expressions[expression] {
            Expression::FunctionArgument(index) => walk.arguments[*index as usize],
            Expression::LocalVariable(local) => walk.locals.contains(local),
            Expression::GlobalVariable(global) => self.holds_data(*global),
            Expression::CallResult(_) => walk.calls.get(&expression).copied().unwrap_or(false),
            Expression::Math { fun: MathFunction::Min, arg, arg1: Some(arg1), .. } => is_data(arg) && is_data(arg1),
            Expression::Binary { op: BinaryOperator::Modulo, right, .. } => is_data(right),
            Expression::Binary { op: BinaryOperator::And, left, right } => is_data(left) && is_data(right),
            Expression::Binary { op, .. } if is_comparison(*op) => false,
            Expression::Select { accept, reject, .. } => is_data(accept) || is_data(reject),
            computed => operands(computed).is_some_and(|operands| operands.iter().any(is_data)),
        }
    }

    fn holds_data(&self, global: Handle<GlobalVariable>) -> bool {
        let is_storage = matches!(self.module.global_variables[global].space, AddressSpace::Storage { .. });
        is_storage || self.shared.contains(&global)
    }
}

fn is_comparison(operator: BinaryOperator) -> bool {
    use BinaryOperator::{Equal, Greater, GreaterEqual, Less, LessEqual, LogicalAnd, LogicalOr, NotEqual};
    matches!(operator, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual | LogicalAnd | LogicalOr)
}

impl Walk<'_> {
    fn mark_variables(&mut self, expression: Handle<Expression>) {
        match &self.function.expressions[expression] {
            Expression::LocalVariable(local) => drop(self.locals.insert(*local)),
            computed => {
                operands(computed).into_iter().flatten().for_each(|operand| self.mark_variables(operand));
            }
        }
    }

    fn root(&self, pointer: Handle<Expression>) -> Option<Root> {
        match &self.function.expressions[pointer] {
            Expression::GlobalVariable(global) => Some(Root::Global(*global)),
            Expression::LocalVariable(local) => Some(Root::Local(*local)),
            Expression::FunctionArgument(_) => Some(Root::Argument),
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.root(*base),
            _ => None,
        }
    }
}
