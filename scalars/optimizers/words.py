"""What the package says when an attached optimizer would compute with the wrong values."""

BLIND_STEP = """\
The optimizer is updated inside a function that mx.compile is tracing and that does not \
capture optimizer.state: its scalars and its step would never change. Capture it, \
mx.compile(step, inputs=[model.state, optimizer.state], outputs=[model.state, \
optimizer.state])."""

CUT_OFF = """\
The scalars in optimizer.state were replaced, by optimizer.state.update(...) or \
optimizer.state["scalars"] = ..., and a compiled function captures what stands there now. \
Assign the whole state, optimizer.state = loaded, or update the scalars once before the \
compiled function is called."""

NEVER_UPDATED = """\
{names}: attached to an optimizer that has made {updates} updates, and never updated \
themselves, so they still have the values of progress 0. Call group.update(step / total) \
before each step, where group is what attach returned, or let the step of the optimizer \
drive them: attach(optimizer, horizon=Horizon(total))."""

HALF_CAPTURED = """\
A function captures a part of what an optimizer with a horizon needs: the step of the \
optimizer without the scalars that follow it, or the scalars without the step. Capture \
optimizer.state as a whole: mx.compile(step, inputs=[..., optimizer.state], outputs=[...])."""

LOST_STEP = """\
The step of the optimizer is not known: a call of a compiled function has failed, and has left \
a placeholder of MLX in its place, as in everything else that it captures. Load a checkpoint, \
or set optimizer.state["step"]."""

DRIVEN = """\
{name} follows the step of an optimizer: it was attached with a horizon. Leave out the \
update, or attach without a horizon."""
