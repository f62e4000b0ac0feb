"""Small Keras models of every layer that qrnn imports, for `check_keras.py` and for tests that have Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

STEPS, FEATURES, VOCABULARY = 7, 4, 9

Build = Callable[[Any, Any], Any]
"""A function of keras and keras.layers that returns a model."""

CASES: dict[str, Build] = {}
"""The name of each case, and what builds its model."""


def case(name: str) -> Callable[[Build], Build]:
    """Register what builds the model of a case."""

    def register(build: Build) -> Build:
        CASES[name] = build
        return build

    return register


def sequence(*layers: Any, keras: Any, shape: tuple[Any, ...] = (None, FEATURES), dtype: str = "float32") -> Any:
    """Return a Sequential model of an input and layers."""
    return keras.Sequential([keras.Input(shape, dtype=dtype, name="x"), *layers])


def behind(
    name: str, make: Callable[[Any], list[Any]], shape: tuple[Any, ...] = (None, FEATURES), dtype: str = "float32"
) -> None:
    """Register a case of layers one behind the other; ``make`` is given keras.layers."""
    CASES[name] = lambda keras, L: sequence(*make(L), keras=keras, shape=shape, dtype=dtype)


def _of_kind(kind: str) -> None:
    """Register the cases of a recurrent layer."""
    behind(kind, lambda L: [getattr(L, kind)(5)])
    behind(f"{kind}, all steps", lambda L: [getattr(L, kind)(5, return_sequences=True)])
    behind(f"{kind}, no bias", lambda L: [getattr(L, kind)(5, use_bias=False)])
    behind(f"{kind}, backwards", lambda L: [getattr(L, kind)(5, go_backwards=True)])
    behind(f"{kind}, backwards twice, all steps", lambda L: [
        getattr(L, kind)(5, go_backwards=True, return_sequences=True),
        getattr(L, kind)(3, go_backwards=True, return_sequences=True)])  # fmt: skip
    behind(f"{kind}, masked", lambda L: [L.Masking(), getattr(L, kind)(5)])
    behind(
        f"Bidirectional {kind}, masked",
        lambda L: [L.Masking(-1.0), L.Bidirectional(getattr(L, kind)(5)), L.Dense(2)],
    )
    behind(f"{kind}, unrolled", lambda L: [getattr(L, kind)(5, unroll=True)], (STEPS, FEATURES))


def _of_mode(mode: str) -> None:
    """Register the cases of a merge mode."""
    behind(
        f"Bidirectional, {mode}",
        lambda L: [L.Bidirectional(L.LSTM(5, return_sequences=True), merge_mode=mode)],
    )
    behind(f"Bidirectional, {mode}, last", lambda L: [L.Bidirectional(L.GRU(5), merge_mode=mode)])


def _of_gate_function(name: str) -> None:
    """Register the cases of a recurrent layer's activation."""
    behind(
        f"LSTM, activation {name}",
        lambda L: [L.LSTM(4, activation=name, recurrent_activation="hard_sigmoid")],
    )


def _of_padding(padding: str) -> None:
    """Register the cases of a padding."""
    behind(f"Conv1D, {padding}", lambda L: [L.Conv1D(6, 3, padding=padding, activation="relu"), L.LSTM(4)])
    behind(
        f"Conv1D, {padding}, dilated",
        lambda L: [L.Conv1D(6, 3, padding=padding, dilation_rate=2, groups=2), L.GRU(4)],
    )
    behind(
        f"Conv1D, {padding}, stride 2",
        lambda L: [L.Conv1D(6, 3, strides=2, padding=padding), L.GRU(4)],
        (STEPS, FEATURES),
    )


def _of_activation(name: str) -> None:
    """Register the case of an activation."""
    behind(f"activation {name}", lambda L: [L.LSTM(4, return_sequences=True), L.Dense(3), L.Activation(name)])


for kind in ("LSTM", "GRU", "SimpleRNN"):
    _of_kind(kind)
for mode in ("concat", "sum", "mul", "ave"):
    _of_mode(mode)
for function in ("relu", "hard_sigmoid", "softsign", "softplus", "elu", "linear"):
    _of_gate_function(function)
for padding in ("valid", "same", "causal"):
    _of_padding(padding)
FUNCTIONS = """relu relu6 elu selu softplus softsign tanh sigmoid exponential hard_sigmoid silu gelu mish softmax log_softmax leaky_relu
hard_silu hard_tanh tanh_shrink log_sigmoid celu linear"""
for function in FUNCTIONS.split():
    _of_activation(function)
behind("Bidirectional, two configs", lambda L: [L.Bidirectional(L.LSTM(5), backward_layer=L.GRU(3, go_backwards=True))])
behind("Bidirectional, two activations", lambda L: [
    L.Bidirectional(L.LSTM(5, activation="relu"),
                    backward_layer=L.LSTM(5, go_backwards=True, recurrent_activation="hard_sigmoid"))])  # fmt: skip
behind("GRU, reset before", lambda L: [L.GRU(5, reset_after=False)])
behind("GRU, reset before, masked, all steps, mean", lambda L: [L.Masking(), L.GRU(5, reset_after=False, return_sequences=True),
                                                                L.GlobalAveragePooling1D()])  # fmt: skip

behind("RNN of one cell", lambda L: [L.RNN(L.GRUCell(4), return_sequences=True)])
behind(
    "RNN of stacked cells", lambda L: [L.RNN([L.LSTMCell(4), L.GRUCell(3), L.SimpleRNNCell(5)], return_sequences=True)]
)
behind("RNN of stacked cells, backwards", lambda L: [L.RNN([L.LSTMCell(4), L.LSTMCell(3)], go_backwards=True)])
behind("two LSTM of one class", lambda L: [L.LSTM(5, return_sequences=True), L.LSTM(6), L.Dense(2), L.Dense(3)])
behind("Embedding", lambda L: [L.Embedding(VOCABULARY, 5), L.LSTM(4)], (None,), "int32")
behind(
    "Embedding, mask_zero",
    lambda L: [L.Embedding(VOCABULARY, 5, mask_zero=True), L.LSTM(4, return_sequences=True), L.LSTM(3)],
    (None,),
)
behind("Embedding, mask_zero, bidirectional, mean", lambda L: [
    L.Embedding(VOCABULARY, 5, mask_zero=True), L.Bidirectional(L.GRU(4, return_sequences=True)), L.Dropout(0.5),
    L.GlobalAveragePooling1D(), L.Dense(3, activation="softmax")], (None,), "int32")  # fmt: skip
behind(
    "Masking, maximum of a LSTM",
    lambda L: [L.Masking(), L.LSTM(4, return_sequences=True), L.Dense(3), L.GlobalMaxPooling1D()],
)

behind("DepthwiseConv1D", lambda L: [L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), L.GRU(4)])
behind(
    "SeparableConv1D",
    lambda L: [L.SeparableConv1D(6, 3, depth_multiplier=2, padding="same", activation="tanh"), L.GRU(4)],
)
behind("Conv1DTranspose, same", lambda L: [L.Conv1DTranspose(3, 4, strides=2, padding="same"), L.GRU(4)])
behind("Conv1DTranspose, valid", lambda L: [L.GRU(4, return_sequences=True), L.Conv1DTranspose(3, 3, strides=1)])
behind("Conv2D over time and bands", lambda L: [
    L.Conv2D(3, (3, 2), padding="same", activation="relu"), L.MaxPooling2D((1, 2)), L.Reshape((-1, 9)), L.LSTM(4)], (STEPS, 6, 2))  # fmt: skip
behind("DepthwiseConv2D in TimeDistributed", lambda L: [
    L.TimeDistributed(L.DepthwiseConv2D((3, 2))), L.TimeDistributed(L.SeparableConv2D(3, 2)), L.TimeDistributed(L.Flatten()), L.GRU(4)],
    (STEPS, 6, 5, 2))  # fmt: skip
behind("Conv2D in TimeDistributed", lambda L: [
    L.TimeDistributed(L.Conv2D(3, 3, strides=2, padding="same", activation="relu")), L.TimeDistributed(L.GlobalAveragePooling2D()),
    L.LSTM(4)], (STEPS, 6, 5, 2))  # fmt: skip
behind("MaxPooling1D", lambda L: [L.GRU(4, return_sequences=True), L.MaxPooling1D(2), L.GRU(3)])
behind("MaxPooling1D, same", lambda L: [L.MaxPooling1D(3, strides=1, padding="same"), L.GRU(3)])
behind("AveragePooling1D", lambda L: [L.AveragePooling1D(2), L.GRU(3)])
behind("AveragePooling1D, same", lambda L: [L.AveragePooling1D(3, strides=1, padding="same"), L.GRU(3)])
behind("GlobalMaxPooling1D", lambda L: [L.GRU(4, return_sequences=True), L.GlobalMaxPooling1D()])
behind("GlobalAveragePooling1D", lambda L: [L.GRU(4, return_sequences=True), L.GlobalAveragePooling1D()])
behind(
    "BatchNormalization",
    lambda L: [L.BatchNormalization(), L.LSTM(4, return_sequences=True), L.BatchNormalization(scale=False)],
)
behind(
    "LayerNormalization",
    lambda L: [L.LayerNormalization(), L.LSTM(4, return_sequences=True), L.LayerNormalization(center=False)],
)
behind(
    "LayerNormalization, two axes",
    lambda L: [L.LayerNormalization(axis=[2, 3]), L.Reshape((-1, 8)), L.LSTM(4)],
    (STEPS, 4, 2),
)
behind("UnitNormalization", lambda L: [L.LSTM(4, return_sequences=True), L.UnitNormalization()])
behind("RMSNormalization", lambda L: [L.LSTM(4, return_sequences=True), L.RMSNormalization()])
behind("GroupNormalization", lambda L: [L.LSTM(4, return_sequences=True), L.GroupNormalization(2)])
behind("Rescaling", lambda L: [L.Rescaling(0.5, offset=[0.1, 0.2, 0.3, 0.4]), L.LSTM(4)])
behind(
    "Normalization", lambda L: [L.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 4.0, 9.0, 2.0]), L.LSTM(4)]
)
behind("Dropout, noise", lambda L: [L.SpatialDropout1D(0.1), L.GaussianNoise(0.1), L.GaussianDropout(0.1), L.ActivityRegularization(0.1),
                                    L.LSTM(4, dropout=0.2, recurrent_dropout=0.1), L.AlphaDropout(0.1)])  # fmt: skip
behind(
    "TimeDistributed Dense",
    lambda L: [L.LSTM(4, return_sequences=True), L.TimeDistributed(L.Dense(3, activation="softmax"))],
)
behind("RepeatVector", lambda L: [L.LSTM(4), L.RepeatVector(STEPS), L.LSTM(3, return_sequences=True), L.TimeDistributed(L.Dense(2))],
       (STEPS, FEATURES))  # fmt: skip
behind("Flatten", lambda L: [L.LSTM(4, return_sequences=True), L.Flatten(), L.Dense(2)], (STEPS, FEATURES))
behind(
    "Reshape, Permute",
    lambda L: [L.Permute((2, 1)), L.Reshape((FEATURES, STEPS)), L.Permute((2, 1)), L.LSTM(4)],
    (STEPS, FEATURES),
)
behind(
    "ZeroPadding1D, Cropping1D", lambda L: [L.ZeroPadding1D((2, 0)), L.Conv1D(4, 3), L.Cropping1D((1, 1)), L.LSTM(4)]
)
behind(
    "UpSampling1D", lambda L: [L.LSTM(4, return_sequences=True), L.UpSampling1D(2), L.LSTM(3, return_sequences=True)]
)

behind("ReLU with max_value and slope", lambda L: [L.LSTM(4), L.Dense(6), L.ReLU(max_value=0.3, negative_slope=0.1)])
behind("LeakyReLU, ELU, PReLU, Softmax", lambda L: [
    L.LSTM(4, return_sequences=True), L.LeakyReLU(), L.ELU(0.5), L.PReLU(shared_axes=[1]), L.Softmax()])  # fmt: skip


@case("return_state and initial_state")
def encoder_decoder(keras: Any, L: Any) -> Any:
    """Return an encoder whose states start a decoder over another sequence."""
    x, y = keras.Input((None, FEATURES), name="x"), keras.Input((None, 3), name="y")
    _, h, c = L.LSTM(5, return_state=True)(x)
    z = L.LSTM(5, return_sequences=True)(y, initial_state=[h, c])
    return keras.Model([x, y], L.Dense(2)(z))


@case("states as inputs and outputs")
def states(keras: Any, L: Any) -> Any:
    """Return a layer whose states are inputs and outputs of the model."""
    x = keras.Input((None, FEATURES), name="x")
    h, c = keras.Input((5,), name="h"), keras.Input((5,), name="c")
    y, h_n, c_n = L.LSTM(5, return_sequences=True, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], {"y": y, "h_n": h_n, "c_n": c_n})


@case("Bidirectional with states")
def bidirectional_states(keras: Any, L: Any) -> Any:
    """Return a bidirectional encoder whose states start a bidirectional decoder."""
    x = keras.Input((None, FEATURES), name="x")
    y, *found = L.Bidirectional(L.LSTM(5, return_sequences=True, return_state=True))(x)
    z = L.Bidirectional(L.LSTM(5, return_sequences=True))(y, initial_state=found)
    return keras.Model(x, z)


@case("Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate")
def merging(keras: Any, L: Any) -> Any:
    """Return all layers that join values."""
    x = keras.Input((None, FEATURES), name="x")
    a, b = L.LSTM(4, return_sequences=True)(x), L.GRU(4, return_sequences=True)(x)
    joined = [kind()([a, b]) for kind in (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)]
    return keras.Model(x, L.Dense(3)(L.Concatenate()([*joined, x])))


@case("shared layer")
def shared(keras: Any, L: Any) -> Any:
    """Return one layer that is called twice."""
    x, y = keras.Input((None, FEATURES), name="x"), keras.Input((None, FEATURES), name="y")
    encode, dense = L.LSTM(5), L.Dense(3)
    return keras.Model([x, y], L.Subtract()([dense(encode(x)), dense(encode(y))]))


@case("models in models")
def nested(keras: Any, L: Any) -> Any:
    """Return a model of a frozen functional model and a Sequential one."""
    i = keras.Input((None, FEATURES))
    o = L.BatchNormalization()(L.Dense(5, activation="relu")(i))
    inner = keras.Model(i, L.Dense(4)(o))
    inner.layers[1].trainable = False
    x = keras.Input((None, FEATURES), name="x")
    head = keras.Sequential([L.LSTM(4), L.Dense(4), L.Dense(2)])
    return keras.Model(x, head(inner(x)))


@case("model in TimeDistributed")
def images(keras: Any, L: Any) -> Any:
    """Return a model of an image in each step."""
    inner = keras.Sequential([keras.Input((6, 5, 2)), L.Conv2D(3, 3), L.MaxPooling2D(2), L.Flatten(), L.Dense(4)])
    x = keras.Input((STEPS, 6, 5, 2), name="x")
    return keras.Model(x, L.LSTM(4)(L.TimeDistributed(inner)(x)))


@case("two outputs and operations")
def operations(keras: Any, L: Any) -> Any:
    """Return operations of keras.ops between layers."""
    x = keras.Input((None, FEATURES), name="x")
    y = L.LSTM(5, return_sequences=True)(x)
    mean = keras.ops.mean(y, axis=1)
    return keras.Model(
        x, [L.Dense(2, name="last")(y[:, -1]), L.Dense(3, name="other")(keras.ops.tanh(mean) * 2.0 - y[:, 0])]
    )


@case("Attention")
def attention(keras: Any, L: Any) -> Any:
    """Return attention over the steps of a sequence."""
    x = keras.Input((None, FEATURES), name="x")
    y = L.LSTM(4, return_sequences=True)(x)
    return keras.Model(x, L.Dense(2)(L.Attention()([y, y])))


@case("MultiHeadAttention")
def heads(keras: Any, L: Any) -> Any:
    """Return attention of two heads."""
    x = keras.Input((None, FEATURES), name="x")
    y = L.LSTM(4, return_sequences=True)(x)
    return keras.Model(x, L.LayerNormalization()(y + L.MultiHeadAttention(2, 3)(y, y)))


@case("MultiHeadAttention, causal")
def causal(keras: Any, L: Any) -> Any:
    """Return causal attention of two heads."""
    x = keras.Input((None, FEATURES), name="x")
    y = L.GRU(4, return_sequences=True)(x)
    return keras.Model(x, L.MultiHeadAttention(2, 3)(y, y, use_causal_mask=True))


@case("Dot of all steps and the last state")
def dot(keras: Any, L: Any) -> Any:
    """Return Luong's attention of the last state over all steps, written by Dot."""
    x = keras.Input((None, FEATURES), name="x")
    y, h = L.GRU(4, return_sequences=True, return_state=True)(x)
    weights = L.Softmax()(L.Dot(axes=(2, 1))([y, h]))
    return keras.Model(x, L.Dense(2)(L.Dot(axes=(1, 1))([weights, y])))


@case("stateful")
def stateful(keras: Any, L: Any) -> Any:
    """Return a stateful layer, which begins with zeros in its first call."""
    return keras.Sequential([keras.Input(batch_shape=(3, None, FEATURES), name="x"), L.LSTM(4, stateful=True)])


@case("mixed_float16")
def half(keras: Any, L: Any) -> Any:
    """Return a model whose layers compute in float16 from weights of float32."""
    policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    return sequence(L.LSTM(4, dtype=policy), L.Dense(2, dtype="float32"), keras=keras)
