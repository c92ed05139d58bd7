"""Messages for cases in which an attached optimizer would use wrong values."""

BLIND_STEP = """\
The optimizer is updated in a function that mx.compile traces without capturing \
optimizer.state, so its scalars and its step would never change. Capture it: \
mx.compile(step, inputs=[model.state, optimizer.state], outputs=[model.state, \
optimizer.state]). If it is mx.vmap that traces, call detach(optimizer) before."""

ASSIGNED_IN_TRACE = """\
optimizer.state is assigned inside a function that is being traced: the scalars in it have no \
values there. Capture optimizer.state instead of passing it as an argument, mx.compile(step, \
inputs=[..., optimizer.state], outputs=[..., optimizer.state]), or attach nothing and pass the \
optimizer lr.by_step(total)."""

CUT_OFF = """\
The scalars in optimizer.state were replaced, by optimizer.state.update(...) or \
optimizer.state["scalars"] = ..., and a compiled function captures the new entries. Assign the \
whole state with optimizer.state = loaded, or update the scalars once before you call the \
compiled function."""

NEVER_UPDATED = """\
{names}: the optimizer has made {updates} updates, but these scalars were never updated \
and still have the values of progress 0. Call group.update(step / total) before each step, \
where group is what attach returned, or let them follow the step of the optimizer: \
attach(optimizer, horizon=Horizon(total)). If you update only once per epoch, call \
group.update(0) before the first step."""

BLIND_LAYERS = """\
{names}: these layers of the model hold scalars that a compiled update of the optimizer does not \
capture, so that they would never change. Pass the model, attach(optimizer, model), before you \
compile the function."""

BLIND_FUNCTION = """\
A function that is being traced uses {name}, a scalar in a layer of the attached model, and \
captures the model but not optimizer.state: compiled, it would never see another value. Capture \
that state, too: mx.compile(function, inputs=[model.state, optimizer.state]). A function of \
mx.vmap over the parameters is right: ignore this warning then."""

IDLE_LAYERS = """\
{names}: the optimizer has made {updates} updates, but these scalars in the layers of the model \
were never updated and still have the values of progress 0. Pass the model: \
attach(optimizer, model)."""

HALF_CAPTURED = """\
A compiled function captures only a part of optimizer.state: the step without the scalars \
that follow it, or the scalars without the step. Capture optimizer.state as a whole: \
mx.compile(step, inputs=[..., optimizer.state], outputs=[..., optimizer.state])."""

OTHER_STEP = """\
{outer} does not count its updates in its own step, which the scalars follow, but {inner} in it \
does. Attach that optimizer, attach(inner, horizon=...), or make the first update \
outside of the compiled function."""

LOST_STEP = """\
The step of the optimizer is lost, because MLX has left a placeholder in its place. Either a \
compiled function updates the optimizer but does not capture optimizer.state as an output: \
mx.compile(step, inputs=[..., optimizer.state], outputs=[..., optimizer.state]). Or a call of a \
compiled function has failed: load a checkpoint, or set optimizer.state["step"]."""

DRIVEN = """\
{name} follows the step of an optimizer, as it was attached with a horizon. Remove the call \
of update, or attach without a horizon."""

AGAIN = """\
Call group.hold(name=value) to hold it at a number. To assign another schedule, call \
detach(optimizer), assign it, and call attach(optimizer) again."""

UNCOUNTED = """\
The optimizer has made {updates} updates without counting them in optimizer.state["step"], which \
its scalars follow, so their values have not changed. Call super().apply_gradients, or write \
self.state["step"] = self.step + 1 in the optimizer; or attach it without a horizon and call \
group.update(step / total)."""
