//! A lint that naga lacks: barriers stand in uniform control flow, where all invocations of a workgroup decide alike.
//!
//! What is uniform: the workgroup's number, params, read-only storage at a uniform index, local variables that are only
//! given uniform values in uniform control flow, what `workgroupUniformLoad` gives, and what is computed from these. Not
//! uniform: what a shader writes to (storage or workgroup memory), the invocation's number, and whatever depends on them.

use std::collections::HashMap;

use naga::{
    AddressSpace, Binding, Block, BuiltIn, Expression, Function, GlobalVariable, Handle, LocalVariable, Module,
    Statement, StorageAccess,
};

/// The first barrier of the entry point that only some invocations may reach.
pub fn divergent_barrier(module: &Module) -> Option<String> {
    let mut analysis = Analysis { module, summaries: HashMap::new() };
    let entry = &module.entry_points[0].function;
    // Its arguments are built-in values, by themselves (told apart below) or in structs, which are not uniform.
    analysis.function(entry, false).violation
}

#[derive(Clone)]
struct Summary {
    has_barrier: bool,
    /// Whether the result is uniform where all arguments are.
    uniform_result: bool,
    violation: Option<String>,
}

struct Analysis<'a> {
    module: &'a Module,
    summaries: HashMap<(Handle<Function>, bool), Summary>,
}

struct Walk<'a> {
    function: &'a Function,
    uniform_arguments: bool,
    locals: HashMap<Handle<LocalVariable>, bool>,
    calls: HashMap<Handle<Expression>, bool>,
    changed: bool,
    summary: Summary,
}

/// How control flow goes on after a statement: whether all invocations that were together still are.
#[derive(Clone, Copy, PartialEq)]
struct Flow {
    /// No invocation has left the function alone.
    function: bool,
    /// No invocation has left this iteration of the loop alone.
    iteration: bool,
}

impl Flow {
    fn uniform(self) -> bool {
        self.function && self.iteration
    }

    fn and(self, other: Flow) -> Flow {
        Flow { function: self.function && other.function, iteration: self.iteration && other.iteration }
    }
}

impl<'a> Analysis<'a> {
    fn function(&mut self, function: &'a Function, uniform_arguments: bool) -> Summary {
        let summary = Summary { has_barrier: false, uniform_result: true, violation: None };
        let mut walk = Walk {
            function,
            uniform_arguments,
            locals: function.local_variables.iter().map(|(handle, _)| (handle, true)).collect(),
            calls: HashMap::new(),
            changed: true,
            summary,
        };
        // Locals start as uniform and lose it: repeat until none does.
        while walk.changed {
            walk.changed = false;
            walk.summary.violation = None;
            self.block(&mut walk, &function.body, Flow { function: true, iteration: true });
        }
        walk.summary
    }

    fn called(&mut self, function: Handle<Function>, uniform_arguments: bool) -> Summary {
        if let Some(summary) = self.summaries.get(&(function, uniform_arguments)) {
            return summary.clone();
        }
        let summary = self.function(&self.module.functions[function], uniform_arguments);
        self.summaries.insert((function, uniform_arguments), summary.clone());
        summary
    }

    fn block(&mut self, walk: &mut Walk<'a>, block: &'a Block, mut flow: Flow) -> Flow {
        for statement in block {
            match statement {
                Statement::ControlBarrier(_) | Statement::MemoryBarrier(_) => {
                    walk.summary.has_barrier = true;
                    if !flow.uniform() {
                        walk.violation("a barrier");
                    }
                }
                Statement::Store { pointer, value } => {
                    let uniform = flow.uniform() && self.uniform(walk, *value) && self.uniform(walk, *pointer);
                    if let Some(local) = walk.base_local(*pointer).filter(|_| !uniform) {
                        walk.lose(local);
                    }
                }
                Statement::WorkGroupUniformLoad { .. } => {
                    walk.summary.has_barrier = true;
                    if !flow.uniform() {
                        walk.violation("a uniform load");
                    }
                }
                Statement::Call { function, arguments, result } => {
                    self.call(walk, *function, arguments, *result, flow);
                }
                Statement::Block(inner) => flow = self.block(walk, inner, flow),
                Statement::If { condition, accept, reject } => {
                    let together = self.uniform(walk, *condition);
                    let inner = if together { flow } else { Flow { function: false, iteration: false } };
                    let after = self.block(walk, accept, inner).and(self.block(walk, reject, inner));
                    flow =
                        if together { flow.and(after) } else { flow.and(walk.leaves(accept).and(walk.leaves(reject))) };
                }
                Statement::Switch { selector, cases } => {
                    let together = self.uniform(walk, *selector);
                    for case in cases {
                        let inner = if together { flow } else { Flow { function: false, iteration: false } };
                        let after = self.block(walk, &case.body, inner);
                        flow = flow.and(if together { after } else { walk.leaves(&case.body) });
                    }
                }
                Statement::Loop { body, continuing, break_if } => {
                    let mut inner = self.block(walk, body, flow);
                    inner = self.block(walk, continuing, inner);
                    if break_if.is_some_and(|condition| !self.uniform(walk, condition)) {
                        inner.iteration = false;
                    }
                    if inner != flow {
                        // Some leave in an iteration: the next ones start without them.
                        self.block(walk, body, inner);
                    }
                    flow.function &= inner.function;
                }
                Statement::Return { value } => {
                    let uniform = value.is_none_or(|value| self.uniform(walk, value));
                    walk.summary.uniform_result &= uniform && flow.uniform();
                }
                _ => {}
            }
        }
        flow
    }

    fn call(
        &mut self,
        walk: &mut Walk<'a>,
        function: Handle<Function>,
        arguments: &[Handle<Expression>],
        result: Option<Handle<Expression>>,
        flow: Flow,
    ) {
        let uniform = arguments.iter().all(|argument| self.uniform(walk, *argument));
        let summary = self.called(function, uniform);
        if summary.has_barrier {
            walk.summary.has_barrier = true;
            if !flow.uniform() {
                walk.violation("a call with a barrier");
            }
        }
        if walk.summary.violation.is_none() {
            walk.summary.violation = summary.violation;
        }
        // A pointer to a local may be written through.
        for local in arguments.iter().filter_map(|argument| walk.base_local(*argument)).collect::<Vec<_>>() {
            walk.lose(local);
        }
        if let Some(result) = result {
            walk.calls.insert(result, uniform && summary.uniform_result);
        }
    }

    fn uniform(&self, walk: &Walk<'a>, expression: Handle<Expression>) -> bool {
        match &walk.function.expressions[expression] {
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::Override(_)
            | Expression::ZeroValue(_)
            | Expression::WorkGroupUniformLoadResult { .. } => true,
            Expression::FunctionArgument(index) => match &walk.function.arguments[*index as usize].binding {
                Some(Binding::BuiltIn(builtin)) => {
                    matches!(builtin, BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups)
                }
                _ => walk.uniform_arguments,
            },
            Expression::GlobalVariable(global) => uniform_space(&self.module.global_variables[*global]),
            Expression::LocalVariable(local) => walk.locals[local],
            Expression::CallResult(_) => walk.calls.get(&expression).copied().unwrap_or(false),
            computed => operands(computed)
                .is_some_and(|operands| operands.into_iter().all(|operand| self.uniform(walk, operand))),
        }
    }
}

/// The expressions that one is computed from by arithmetic, indexing or loading; `None` where it is something else.
pub fn operands(expression: &Expression) -> Option<Vec<Handle<Expression>>> {
    Some(match expression {
        Expression::Load { pointer } => vec![*pointer],
        Expression::Access { base, index } => vec![*base, *index],
        Expression::AccessIndex { base, .. } => vec![*base],
        Expression::Splat { value, .. } => vec![*value],
        Expression::Swizzle { vector, .. } => vec![*vector],
        Expression::Compose { components, .. } => components.clone(),
        Expression::Unary { expr, .. } | Expression::As { expr, .. } => vec![*expr],
        Expression::Binary { left, right, .. } => vec![*left, *right],
        Expression::Select { condition, accept, reject } => vec![*condition, *accept, *reject],
        Expression::Relational { argument, .. } => vec![*argument],
        Expression::Math { arg, arg1, arg2, arg3, .. } => {
            [Some(*arg), *arg1, *arg2, *arg3].into_iter().flatten().collect()
        }
        _ => return None,
    })
}

fn uniform_space(variable: &GlobalVariable) -> bool {
    match variable.space {
        AddressSpace::Immediate | AddressSpace::Uniform => true,
        AddressSpace::Storage { access } => !access.contains(StorageAccess::STORE),
        _ => false,
    }
}

impl<'a> Walk<'a> {
    fn base_local(&self, pointer: Handle<Expression>) -> Option<Handle<LocalVariable>> {
        match &self.function.expressions[pointer] {
            Expression::LocalVariable(local) => Some(*local),
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.base_local(*base),
            _ => None,
        }
    }

    fn lose(&mut self, local: Handle<LocalVariable>) {
        self.changed |= self.locals.insert(local, false) == Some(true);
    }

    fn violation(&mut self, what: &str) {
        let name = self.function.name.as_deref().unwrap_or("?");
        self.summary
            .violation
            .get_or_insert_with(|| format!("{what} in `{name}` that only some invocations may reach"));
    }

    /// The flow after a block that only some invocations enter: whom a return, break or continue takes away.
    fn leaves(&self, block: &Block) -> Flow {
        let mut flow = Flow { function: true, iteration: true };
        for statement in block {
            match statement {
                Statement::Return { .. } | Statement::Kill => flow.function = false,
                Statement::Break | Statement::Continue => flow.iteration = false,
                Statement::Block(inner) => flow = flow.and(self.leaves(inner)),
                Statement::If { accept, reject, .. } => flow = flow.and(self.leaves(accept)).and(self.leaves(reject)),
                Statement::Switch { cases, .. } => {
                    // A break ends only the switch.
                    cases.iter().for_each(|case| flow.function &= self.leaves(&case.body).function);
                }
                Statement::Loop { body, continuing, .. } => {
                    flow.function &= self.leaves(body).function && self.leaves(continuing).function;
                }
                _ => {}
            }
        }
        flow
    }
}
