"""Assignment 05: orthogonal starts, leaky states, skips in time, and a learned first state."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import copy
from collections import deque

import numpy as np

from rnncourse import initialization, skips
from rnncourse.exercises.spec import Case, Exercise, normal
from rnncourse.exercises.vanilla_rnn import rnn_arguments

DRAWING = "06-initialisation: Drawing an orthogonal matrix"
RADIUS = "06-initialisation: Scaled Gaussian: radius is not norm"
LEAKY = "06-initialisation: Leaky states"
SKIPS = "06-initialisation: Skips in time, residuals in depth"
FIRST = "06-initialisation: The first state"
ONE = ({"T": 5, "B": 3, "D": 2, "H": 4, "V": 6},)


def _gain(rng):
    return 1.3 + 0.4 * rng.random()


def _draw_arguments(rng, n):
    return n, _gain(rng), np.random.default_rng(rng.integers(2**63))


def _orthogonal_cases(rng, s):
    yield Case(_draw_arguments(rng, 1), "n = 1")
    yield Case((6, 0.4 + 0.2 * rng.random(), np.random.default_rng(rng.integers(2**63))))
    yield Case(_draw_arguments(rng, 4), "many draws, to see how they are distributed")


def _draws(f, n, gain, rng):
    """Call twice with one state of the generator, then with others: many where n is 4."""
    others = copy.deepcopy(rng).integers(2**63, size=80 if n == 4 else 2)
    return [f(n, gain, r) for r in (rng, rng, *map(np.random.default_rng, others))]


def _level(share):
    """Return 0 for hardly ever, 2 for nearly always, 1 between; far from what luck may change."""
    return 0 if share < 0.2 else 2 if share > 0.8 else 1


def _haar_moments(draws, gain):
    """Return means over 4 by 4 draws, each with limits that an even draw leaves once in 10⁵.

    Evenly drawn, the entries' fourth powers have the mean 3/(n(n + 2)), tr(W²) and tr(W)² have 1.
    """
    W = np.array(draws) / gain
    traces = np.trace(W, axis1=1, axis2=2)
    yield np.mean(W**4), 0.105, 0.15
    yield np.mean(np.trace(W @ W, axis1=1, axis2=2)), 0.2, 1.9
    yield np.mean(traces**2), 0.3, 2.2


def _verify_orthogonal(result, n, gain, rng):
    draws = [np.asarray(W) for W in result]
    for W in draws:
        if W.shape != (n, n):
            return f"W has shape {W.shape}, expected {(n, n)}."
        gram = W.T @ W / gain**2
        if not np.abs(gram - np.eye(n)).max() < 1e-5:
            square = np.diag(gram)
            if np.allclose(gram, np.eye(n) * square[0], atol=1e-5):
                return "W is a multiple of an orthogonal matrix, but not by `gain`."
            return "The columns of W are not orthogonal, each of length `gain`."
    first, again, *others = draws
    if not np.array_equal(first, again):
        return "Two calls with the same state of `rng` give different results."
    if n > 1 and all(np.allclose(first, W) for W in others):
        return "Calls with different generators give the same result."
    if len(others) > 20:
        positive = np.mean([W > 0 for W in others], axis=0)
        i, j = np.unravel_index(np.abs(positive - 0.5).argmax(), (n, n))
        if _level(positive[i, j]) != 1:
            return (
                f"Not all orthogonal matrices are equally likely: in {len(others)} draws, entry "
                f"[{i}, {j}] {'hardly ever' if positive[i, j] < 0.5 else 'nearly always'} was "
                "positive."
            )
        if not all(low < value < high for value, low, high in _haar_moments(others, gain)):
            return (
                f"Not all orthogonal matrices are equally likely: {len(others)} draws are of a "
                "special kind, with many zeros, symmetric or the like."
            )
        rotations = np.mean([np.linalg.det(W) > 0 for W in others])
        if _level(rotations) != 1:
            return (
                "Not all orthogonal matrices are equally likely: nearly all of "
                f"{len(others)} draws have a determinant of the same sign."
            )
    return None


def _orthogonal_fingerprint(result, n, gain, rng):
    draws = [np.asarray(W, float) for W in result]
    first, again, *others = draws
    if any(W.shape != (n, n) for W in draws):
        return np.array([-1.0, first.ndim])
    gram = first.T @ first
    marks = [
        np.sqrt(gram[0, 0]) / gain if np.allclose(gram, gram[0, 0] * np.eye(n), atol=1e-4) else 0,
        np.allclose(np.diag(gram), gain**2, rtol=1e-4),
        np.allclose((first**2).sum(axis=1), gain**2, rtol=1e-4),
        np.isclose(np.linalg.norm(first, 2), gain, rtol=1e-4),
        np.isclose(np.linalg.norm(first), gain, rtol=1e-4),
        np.isclose(np.abs(np.linalg.eigvals(first)).max(), gain, rtol=1e-4),
        np.allclose(first, first.T, rtol=1e-4),
        np.array_equal(first, again) if n > 1 else 0,  # two signs may agree by luck
        all(np.allclose(first, W) for W in others) if n > 1 else 0,
        np.count_nonzero(np.abs(first) > 1e-9) == n,
    ]
    if n == 4:
        entries = np.mean([W**2 for W in others])
        known = [gain**2 / n, gain**2, 1 / n, 1.0]
        marks += [abs(entries / value - 1) < 0.2 for value in known]
        marks += [_level(np.mean([W[i, 0] > 0 for W in others])) for i in (0, 1)]
        marks.append(_level(np.mean([np.linalg.det(W) > 0 for W in others])))
    return np.array(marks, dtype=float)


orthogonal = Exercise(
    name="orthogonal",
    reference=initialization.orthogonal,
    section=DRAWING,
    axes={"n": "", "gain": "", "rng": ""},
    returns=("W",),
    sizes=ONE,
    draw=lambda rng, s: _draw_arguments(rng, 5),
    special=_orthogonal_cases,
    call=_draws,
    verify=_verify_orthogonal,
    fingerprint=_orthogonal_fingerprint,
)


@orthogonal.mistake(
    "signs-not-fixed",
    "the Q of a QR decomposition is taken as it comes",
    "Q is unique only up to the sign of each column, and the library's choice is not random: half "
    "of the orthogonal matrices never come. What does the diagonal of R tell about those signs?",
)
def _(n, gain, rng):
    return gain * np.linalg.qr(rng.standard_normal((n, n)))[0]


@orthogonal.mistake(
    "diagonal-of-q-positive",
    "the signs are chosen so that the diagonal of Q is positive",
    "Then no matrix with a negative diagonal entry ever comes. The signs to undo are those of the "
    "*other* factor.",
)
def _(n, gain, rng):
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return gain * Q * np.sign(np.diag(Q))


@orthogonal.mistake(
    "gain-ignored",
    "`gain` is not used",
    "All singular values of the result shall be `gain`. Yours are 1.",
)
def _(n, gain, rng):
    return initialization.orthogonal(n, 1.0, rng)


@orthogonal.mistake(
    "gain-squared",
    "the matrix is scaled by the square of `gain`",
    "Scaling a matrix scales its singular values by the same factor, once.",
)
def _(n, gain, rng):
    return initialization.orthogonal(n, gain**2, rng)


@orthogonal.mistake(
    "root-of-gain",
    "the matrix is scaled by the root of `gain`",
    "Scaling a matrix scales its singular values by the same factor.",
)
def _(n, gain, rng):
    return initialization.orthogonal(n, np.sqrt(gain), rng)


@orthogonal.mistake(
    "divided-by-gain",
    "the matrix is divided by `gain`",
    "A larger gain must give larger weights.",
)
def _(n, gain, rng):
    return initialization.orthogonal(n, 1 / gain, rng)


@orthogonal.mistake(
    "gaussian",
    "a Gaussian matrix is returned as it was drawn",
    "Its columns are neither orthogonal nor of equal length. Which decomposition makes them so?",
)
def _(n, gain, rng):
    return gain * rng.standard_normal((n, n))


@orthogonal.mistake(
    "scaled-gaussian",
    "a Gaussian matrix, scaled by 1/√n, is returned",
    "That makes columns of the right length on average, but not orthogonal: some directions still "
    "shrink and others grow.",
    section=RADIUS,
)
def _(n, gain, rng):
    return gain / np.sqrt(n) * rng.standard_normal((n, n))


@orthogonal.mistake(
    "columns-normalised",
    "the columns have the right length but are not orthogonal",
    "Columns of the right length may still point the same way. Each must lose its part along the "
    "others.",
)
def _(n, gain, rng):
    A = rng.standard_normal((n, n))
    return gain * A / np.linalg.norm(A, axis=0)


@orthogonal.mistake(
    "rows-normalised",
    "the rows have the right length but are not orthogonal",
    "Rows of the right length may still point the same way.",
)
def _(n, gain, rng):
    A = rng.standard_normal((n, n))
    return gain * A / np.linalg.norm(A, axis=1, keepdims=True)


@orthogonal.mistake(
    "largest-singular-value-only",
    "only the largest singular value is set to `gain`",
    "*All* singular values shall be `gain`: no direction may shrink.",
    section=RADIUS,
)
def _(n, gain, rng):
    A = rng.standard_normal((n, n))
    return gain * A / np.linalg.norm(A, 2)


@orthogonal.mistake(
    "radius-only",
    "a Gaussian matrix is scaled to the spectral radius `gain`",
    "The radius is about eigenvalues. The columns of your matrix are not orthogonal.",
    section=RADIUS,
)
def _(n, gain, rng):
    return initialization.scale_to_radius(rng.standard_normal((n, n)), gain)


@orthogonal.mistake(
    "frobenius-normalised",
    "the matrix is divided by the root of the sum of its squares",
    "That sets the length of the matrix seen as one long vector, not of its columns.",
)
def _(n, gain, rng):
    A = rng.standard_normal((n, n))
    return gain * A / np.linalg.norm(A)


@orthogonal.mistake(
    "identity",
    "the identity is returned",
    "It is orthogonal, but it is always the same. Draw it at random, with `rng`.",
    section="06-initialisation: Identity and ReLU",
)
def _(n, gain, rng):
    return gain * np.eye(n)


@orthogonal.mistake(
    "permutation",
    "a permutation matrix is drawn",
    "It is orthogonal, but one of finitely many. All orthogonal matrices shall be equally likely.",
)
def _(n, gain, rng):
    return gain * np.eye(n)[rng.permutation(n)] * rng.choice([-1.0, 1.0], n)


@orthogonal.form("permutation")
def _(n, gain, rng):
    return gain * np.eye(n)[rng.permutation(n)]


@orthogonal.mistake(
    "rotations-only",
    "only matrices with a positive determinant come",
    "Half of the orthogonal matrices mirror space. Do not turn them all into rotations.",
)
def _(n, gain, rng):
    W = initialization.orthogonal(n, gain, rng)
    W[:, -1] *= np.sign(np.linalg.det(W))
    return W


@orthogonal.mistake(
    "own-seed",
    "the same matrix comes back whatever generator is given, as with a seed of your own",
    "All layers would start alike. Draw from `rng`, and draw anew in every call.",
)
def _(n, gain, rng):
    return initialization.orthogonal(n, gain, np.random.default_rng(42))


@orthogonal.mistake(
    "rng-ignored",
    "random numbers are drawn from somewhere else than `rng`",
    "Two calls with the same state of `rng` must agree, or no run can be repeated.",
)
def _(n, gain, rng):
    return initialization.orthogonal(n, gain, np.random.default_rng())


@orthogonal.mistake(
    "positive-entries",
    "the matrix that is decomposed has positive entries only",
    "`rng.random` is uniform between 0 and 1, so the first column can only point one way. Which "
    "distribution prefers no direction?",
)
def _(n, gain, rng):
    Q, R = np.linalg.qr(rng.random((n, n)))
    return gain * Q * np.sign(np.diag(R))


@orthogonal.mistake(
    "signs-summed",
    "the signs are multiplied in as a vector, which sums over columns",
    "The signs shall flip columns, not add them up.",
)
def _(n, gain, rng):
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return gain * Q @ np.sign(np.diag(R))


@orthogonal.variant("polar factor")
def _(n, gain, rng):
    U, _, Vt = np.linalg.svd(rng.standard_normal((n, n)))
    return gain * U @ Vt


@orthogonal.variant("Gram and Schmidt")
def _(n, gain, rng):
    columns = []
    for a in rng.normal(size=(n, n)):
        for _ in range(2):
            for q in columns:
                a = a - (q @ a) * q
        columns.append(a / np.linalg.norm(a))
    return gain * np.array(columns)


@orthogonal.variant("random signs")
def _(n, gain, rng):
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return np.where(rng.random(n) < 0.5, -gain, gain) * Q


@orthogonal.variant("diagonal of signs, transposed")
def _(n, gain, rng):
    Q, R = np.linalg.qr(rng.standard_normal((n, n)).T)
    return gain * (Q @ np.diag(np.where(np.diag(R) < 0, -1, 1))).T


@orthogonal.variant("inverse root")
def _(n, gain, rng):
    A = rng.standard_normal((n, n))
    values, V = np.linalg.eigh(A.T @ A)
    return gain * A @ (V / np.sqrt(values)) @ V.T


@orthogonal.variant("torch, seeded from rng")
def _(n, gain, rng):
    import torch

    generator = torch.Generator().manual_seed(int(rng.integers(2**60)))
    W = torch.empty(n, n, dtype=torch.float64)
    return torch.nn.init.orthogonal_(W, gain, generator).numpy()


def _radius_cases(rng, s):
    a = 0.3 + 0.6 * rng.random()
    turn = np.array([[0.1 * a, -a], [a, 0.1 * a]])
    yield Case((turn, 1.1), "a rotation: both eigenvalues are complex")
    yield Case((np.diag([0.2, 0.5, -0.5 - a]), 0.9), "the largest eigenvalue is negative")
    shear = np.array([[a, 12.0], [0.0, -0.4 * a]])
    yield Case((shear, 0.95), "a shear: small eigenvalues, large norm")
    yield Case((3 * normal(rng, 4, 4), 0.5), "the matrix must shrink")
    yield Case((0.01 * normal(rng, 4, 4), 1.2), "the matrix must grow")
    yield Case((np.array([[-a]]), 2.0), "a single entry, negative")


scale_to_radius = Exercise(
    name="scale_to_radius",
    reference=initialization.scale_to_radius,
    section=RADIUS,
    axes={"W": "H H", "radius": ""},
    returns=("W: H H",),
    draw=lambda rng, s: (normal(rng, s.H, s.H), 0.7 + 0.2 * rng.random()),
    special=_radius_cases,
)


def _rho(W):
    return np.abs(np.linalg.eigvals(W)).max()


@scale_to_radius.mistake(
    "norm-for-radius",
    "the largest singular value is set to `radius`",
    "Norm and radius differ, by a factor of about 2 for large Gaussian matrices and by far more "
    "for a shear. Which of them is about eigenvalues?",
)
def _(W, radius):
    return W * radius / np.linalg.norm(W, 2)


@scale_to_radius.mistake(
    "radius-ignored",
    "the matrix is scaled to the radius 1",
    "Use `radius`: what shall the largest absolute eigenvalue be?",
)
def _(W, radius):
    return W / _rho(W)


@scale_to_radius.mistake(
    "not-divided",
    "the matrix is multiplied by `radius` but not divided by its own radius",
    "The matrix that comes in has some radius of its own. By which factor must it change?",
)
def _(W, radius):
    return W * radius


@scale_to_radius.mistake(
    "factor-inverted",
    "the factor is upside down",
    "A matrix whose radius is too large must shrink. Does yours?",
)
def _(W, radius):
    return W * _rho(W) / radius


@scale_to_radius.mistake(
    "no-absolute-value",
    "the largest eigenvalue is taken without its absolute value",
    "An eigenvalue of -0.9 counts as much as 0.9. How far from zero does the spectrum reach?",
)
def _(W, radius):
    return W * radius / np.linalg.eigvals(W).real.max()


@scale_to_radius.mistake(
    "absolute-value-last",
    "the eigenvalue with the largest real part is chosen, and its absolute value taken then",
    "First the absolute values, then the largest of them.",
)
def _(W, radius):
    return W * radius / abs(np.linalg.eigvals(W).max())


@scale_to_radius.mistake(
    "imaginary-part-dropped",
    "the imaginary parts of the eigenvalues are dropped",
    "The absolute value of a complex number uses both of its parts.",
)
def _(W, radius):
    return W * radius / np.abs(np.linalg.eigvals(W).real).max()


@scale_to_radius.mistake(
    "symmetric-solver",
    "a solver for symmetric matrices is used",
    "`eigvalsh` reads one triangle of the matrix and assumes that the other mirrors it.",
)
def _(W, radius):
    return W * radius / np.abs(np.linalg.eigvalsh(W)).max()


@scale_to_radius.mistake(
    "only-when-larger",
    "a matrix whose radius is smaller is left alone",
    "`radius` is a target, not a ceiling: weights that are too small forget.",
)
def _(W, radius):
    return W * min(1.0, radius / _rho(W))


@scale_to_radius.mistake(
    "frobenius-norm",
    "the matrix is divided by the root of the sum of its squares",
    "That is a norm of the entries. Look for the *eigenvalues*.",
)
def _(W, radius):
    return W * radius / np.linalg.norm(W)


@scale_to_radius.mistake(
    "largest-entry",
    "the largest entry is set to `radius`",
    "The spectral radius is about eigenvalues, not about entries.",
)
def _(W, radius):
    return W * radius / np.abs(W).max()


@scale_to_radius.mistake(
    "mean-of-eigenvalues",
    "the mean absolute eigenvalue is set to `radius`",
    "The radius is the *largest* absolute eigenvalue.",
)
def _(W, radius):
    return W * radius / np.abs(np.linalg.eigvals(W)).mean()


@scale_to_radius.mistake(
    "difference-added",
    "the missing difference is added to the diagonal",
    "That shifts all eigenvalues to the right in place of scaling them about zero.",
)
def _(W, radius):
    return W + (radius - _rho(W)) * np.eye(len(W))


@scale_to_radius.mistake(
    "root-of-factor",
    "the root of the factor is used",
    "c W has the eigenvalues of W times c, not c².",
)
def _(W, radius):
    return W * np.sqrt(radius / _rho(W))


@scale_to_radius.mistake(
    "scaled-in-place",
    "the right matrix is returned, but the caller's matrix is changed too",
    "`W *= …` changes the array that was given. Return a new one.",
)
def _(W, radius):
    W *= radius / _rho(W)
    return W


@scale_to_radius.variant("by its eigenvectors")
def _(W, radius):
    values, V = np.linalg.eig(W)
    scaled = values * (radius / np.sqrt((values * values.conj()).real.max()))
    return ((V * scaled) @ np.linalg.inv(V)).real


@scale_to_radius.variant("twice")
def _(W, radius):
    unit = W / max(abs(e) for e in np.linalg.eigvals(W.T))
    return unit * radius


@scale_to_radius.variant("np.divide")
def _(W, radius):
    return np.multiply(radius, np.divide(W, np.abs(np.roots(np.poly(W))).max()))


@scale_to_radius.variant("nested list")
def _(W, radius):
    factor = radius / sorted(map(abs, np.linalg.eigvals(W)))[-1]
    return [[factor * w for w in row] for row in W]


@scale_to_radius.variant("torch inside")
def _(W, radius):
    import torch

    W = torch.tensor(np.array(W))
    return (W * radius / torch.linalg.eigvals(W).abs().max()).numpy()


def _leaky_cases(rng, s):
    yield Case((*rnn_arguments(rng, s), 1.0), "alpha = 1")
    yield Case((*rnn_arguments(rng, s), 0.05), "alpha is small")


leaky_rnn_forward = Exercise(
    name="leaky_rnn_forward",
    reference=skips.leaky_rnn_forward,
    section=LEAKY,
    axes={"x": "T B D", "h0": "B H", "W_xh": "H D", "W_hh": "H H", "b_h": "H", "alpha": ""},
    returns=("h: T B H",),
    draw=lambda rng, s: (*rnn_arguments(rng, s), 0.2 + 0.15 * rng.random()),
    special=_leaky_cases,
)


def _run(step, x, h0):
    """Return the states of ``h_t = step(x_t, h_{t-1})``."""
    states = []
    for x_t in x:
        states.append(step(x_t, states[-1] if states else h0))
    return np.array(states)


@leaky_rnn_forward.mistake(
    "shares-exchanged",
    "alpha and 1 - alpha are exchanged",
    "With a small alpha the state shall move slowly. Which of the two terms must then be large?",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(
        lambda x_t, h: alpha * h + (1 - alpha) * np.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h), x, h0
    )


@leaky_rnn_forward.mistake(
    "alpha-ignored",
    "`alpha` is not used: a vanilla RNN",
    "Which part of the old state stays, beside the new value?",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(lambda x_t, h: np.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h), x, h0)


@leaky_rnn_forward.mistake(
    "leak-inside-tanh",
    "the old state is mixed in inside the tanh",
    "A path around the step must go around the tanh too: inside it, the old state is squashed "
    "again at every step.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(
        lambda x_t, h: np.tanh((1 - alpha) * h + alpha * (x_t @ W_xh.T + h @ W_hh.T + b_h)), x, h0
    )


@leaky_rnn_forward.mistake(
    "old-state-kept-whole",
    "the old state is added whole, so nothing leaks",
    "Your state can grow without limit. The two shares must add up to 1.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(lambda x_t, h: h + alpha * np.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h), x, h0)


@leaky_rnn_forward.mistake(
    "new-value-whole",
    "the new value is added whole",
    "The two shares must add up to 1.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(lambda x_t, h: (1 - alpha) * h + np.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h), x, h0)


@leaky_rnn_forward.mistake(
    "old-state-missing",
    "the new value is scaled by alpha, and the old state is not added",
    "With alpha = 0.05 your state can never leave [-0.05, 0.05]. What stays of the old state?",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(lambda x_t, h: alpha * np.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h), x, h0)


@leaky_rnn_forward.mistake(
    "initial-state-ignored",
    "the first step starts from zeros in place of `h0`",
    "Only the first steps are far off. What is the state before the first input?",
    section=FIRST,
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return skips.leaky_rnn_forward(x, np.zeros_like(h0), W_xh, W_hh, b_h, alpha)


@leaky_rnn_forward.mistake(
    "state-not-carried",
    "every step starts from `h0`",
    "Your step t knows nothing of the inputs before it.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return (1 - alpha) * h0 + alpha * np.tanh(x @ W_xh.T + h0 @ W_hh.T + b_h)


@leaky_rnn_forward.mistake(
    "leak-from-the-start",
    "the share 1 - alpha is taken from `h0` at every step",
    "Only the first step comes from `h0`. Each step keeps a part of the state *just before* it.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(
        lambda x_t, h: (1 - alpha) * h0 + alpha * np.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h), x, h0
    )


@leaky_rnn_forward.mistake(
    "recurrence-reads-new-value",
    "the recurrent weights read the last tanh, not the leaky state",
    "There is one state, the mixture. Both terms of the next step read it.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    h, new, states = h0, h0, []
    for x_t in x:
        new = np.tanh(x_t @ W_xh.T + new @ W_hh.T + b_h)
        h = (1 - alpha) * h + alpha * new
        states.append(h)
    return np.array(states)


@leaky_rnn_forward.mistake(
    "recurrent-weight-not-transposed",
    "`W_hh` is used without its transpose",
    "Row i of `W_hh` holds the weights *into* unit i: what does that make of a batch of row "
    "vectors?",
    section="02-vanilla-rnn: One step",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return skips.leaky_rnn_forward(x, h0, W_xh, W_hh.T, b_h, alpha)


@leaky_rnn_forward.mistake(
    "bias-outside-tanh",
    "the bias is added after the tanh",
    "Which three terms does the tanh squash together?",
    section="02-vanilla-rnn: One step",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(
        lambda x_t, h: (1 - alpha) * h + alpha * (np.tanh(x_t @ W_xh.T + h @ W_hh.T) + b_h), x, h0
    )


@leaky_rnn_forward.mistake(
    "no-tanh",
    "the tanh is missing",
    "A leaky integrator mixes the old state with a *bounded* new value.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(lambda x_t, h: (1 - alpha) * h + alpha * (x_t @ W_xh.T + h @ W_hh.T + b_h), x, h0)


@leaky_rnn_forward.mistake(
    "alpha-inside-only",
    "alpha scales what the tanh sees, not what it returns",
    "alpha says how far the state moves towards the new value, after the tanh.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return _run(
        lambda x_t, h: (1 - alpha) * h + np.tanh(alpha * (x_t @ W_xh.T + h @ W_hh.T + b_h)), x, h0
    )


@leaky_rnn_forward.mistake(
    "initial-state-returned",
    "`h0` is returned as the first of T + 1 states",
    "`h[t]` is the state *after* reading `x[t]`: there are T of them.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return np.concatenate([h0[None], skips.leaky_rnn_forward(x, h0, W_xh, W_hh, b_h, alpha)])


@leaky_rnn_forward.mistake(
    "only-the-last-state",
    "only the last state is returned",
    "All T states are wanted.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    return skips.leaky_rnn_forward(x, h0, W_xh, W_hh, b_h, alpha)[-1]


@leaky_rnn_forward.mistake(
    "initial-state-overwritten",
    "the states are right, but `h0` is changed in place",
    "`h = h0` makes a second name for the same array, and `h *= …` writes into it.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    states = skips.leaky_rnn_forward(x, h0, W_xh, W_hh, b_h, alpha)
    h0[...] = states[-1]
    return states


@leaky_rnn_forward.mistake(
    "one-array-for-all-steps",
    "all steps of the result are the last state",
    "An array that is updated in place and appended T times is one array with T names.",
)
def _(x, h0, W_xh, W_hh, b_h, alpha):
    states = skips.leaky_rnn_forward(x, h0, W_xh, W_hh, b_h, alpha)
    return np.broadcast_to(states[-1], states.shape)


@leaky_rnn_forward.variant("list")
def _(x, h0, W_xh, W_hh, b_h, alpha):
    states, h = [], np.array(h0)
    for x_t in x:
        h = h + alpha * (np.tanh(W_xh @ x_t.T + W_hh @ h.T + b_h[:, None]).T - h)
        states.append(h)
    return states


@leaky_rnn_forward.variant("inputs projected at once")
def _(x, h0, W_xh, W_hh, b_h, alpha):
    drive = np.einsum("tbd,hd->tbh", x, W_xh) + b_h
    h = np.concatenate([h0[None], np.empty_like(drive)])
    for t in range(len(x)):
        h[t + 1] = h[t] - alpha * h[t] + alpha * np.tanh(drive[t] + h[t] @ W_hh.T)
    return h[1:]


@leaky_rnn_forward.variant("one sequence after the other")
def _(x, h0, W_xh, W_hh, b_h, alpha):
    h = np.zeros((len(x), *h0.shape))
    for b in range(len(h0)):
        state = h0[b]
        for t in range(len(x)):
            state = (1 - alpha) * state + alpha * np.tanh(W_xh @ x[t, b] + W_hh @ state + b_h)
            h[t, b] = state
    return h


@leaky_rnn_forward.variant("recursion")
def _(x, h0, W_xh, W_hh, b_h, alpha):
    def states(t):
        if t == 0:
            return []
        past = states(t - 1)
        h = past[-1] if past else h0
        new = np.tanh(np.hstack([x[t - 1], h]) @ np.hstack([W_xh, W_hh]).T + b_h)
        return [*past, np.average([h, new], axis=0, weights=[1 - alpha, alpha])]

    return np.stack(states(len(x)))


@leaky_rnn_forward.variant("torch inside")
def _(x, h0, W_xh, W_hh, b_h, alpha):
    import torch

    x, h, W_xh, W_hh, b_h = map(torch.tensor, (x, h0, W_xh, W_hh, b_h))
    states = []
    for x_t in x:
        h = torch.lerp(h, torch.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h), float(alpha))
        states.append(h)
    return torch.stack(states).numpy()


def _skip_arguments(rng, s, T, skip):
    s = type(s)(**{**vars(s), "T": T})
    x, h0, W_xh, W_hh, b_h = rnn_arguments(rng, s)
    return x, h0, W_xh, W_hh, 0.8 * s.H**-0.5 * normal(rng, s.H, s.H), b_h, skip


def _skip_cases(rng, s):
    yield Case(_skip_arguments(rng, s, 9, 3), "skip = 3 in 9 steps")
    yield Case(_skip_arguments(rng, s, 4, 1), "skip = 1")
    yield Case(_skip_arguments(rng, s, 4, 4), "skip is as long as the sequence")
    yield Case(_skip_arguments(rng, s, 3, 5), "skip is longer than the sequence")


skip_rnn_forward = Exercise(
    name="skip_rnn_forward",
    reference=skips.skip_rnn_forward,
    section=SKIPS,
    axes={
        "x": "T B D",
        "h0": "B H",
        "W_xh": "H D",
        "W_hh": "H H",
        "W_skip": "H H",
        "b_h": "H",
        "skip": "",
    },
    returns=("h: T B H",),
    draw=lambda rng, s: _skip_arguments(rng, s, s.T, 2),
    special=_skip_cases,
)


def _skip_run(term, x, h0, W_xh, W_hh, b_h):
    """Return the states, `term(t, states)` being added inside the tanh; states[0] is `h0`."""
    states = [h0]
    for t, x_t in enumerate(x, start=1):
        states.append(np.tanh(x_t @ W_xh.T + states[-1] @ W_hh.T + b_h + term(t, states)))
    return np.array(states[1:])


@skip_rnn_forward.mistake(
    "one-step-too-far",
    "the skip reaches one step too far back",
    "With skip = 1 the skip term must read the same state as the recurrent term. Does yours?",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    return skips.skip_rnn_forward(x, h0, W_xh, W_hh, W_skip, b_h, skip + 1)


@skip_rnn_forward.mistake(
    "one-step-too-short",
    "the skip reaches one step too few back",
    "Count on paper which state step 3 reads with skip = 2, the initial state being h_0.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    def term(t, states):
        k = t - max(skip - 1, 1)
        return states[k] @ W_skip.T if k >= 0 else 0

    return _skip_run(term, x, h0, W_xh, W_hh, b_h)


@skip_rnn_forward.mistake(
    "initial-state-not-skipped-to",
    "the skip never reaches the initial state",
    "`h0` is the state at time 0 and has a skip connection to time `skip`, as any other state.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    def term(t, states):
        return states[t - skip] @ W_skip.T if t > skip else 0

    return _skip_run(term, x, h0, W_xh, W_hh, b_h)


@skip_rnn_forward.mistake(
    "initial-state-repeated",
    "before time 0 the initial state is used again and again",
    "There is no state before `h0`. What does the docstring say about the skip term there?",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    def term(t, states):
        return states[max(t - skip, 0)] @ W_skip.T

    return _skip_run(term, x, h0, W_xh, W_hh, b_h)


@skip_rnn_forward.mistake(
    "skip-outside-tanh",
    "the skip term is added after the tanh",
    "That would be a residual connection, and states could leave [-1, 1]. Which terms are inside "
    "the tanh?",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    states = [h0]
    for t, x_t in enumerate(x, start=1):
        h = np.tanh(x_t @ W_xh.T + states[-1] @ W_hh.T + b_h)
        states.append(h + states[t - skip] @ W_skip.T if t >= skip else h)
    return np.array(states[1:])


@skip_rnn_forward.mistake(
    "no-skip",
    "the skip connection is missing",
    "A vanilla RNN. What does `W_skip` read?",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    return _skip_run(lambda t, states: 0, x, h0, W_xh, W_hh, b_h)


@skip_rnn_forward.mistake(
    "skip-replaces-recurrence",
    "where there is a skip, the step from h_{t-1} is left out",
    "Both terms count: the skip comes *in addition*.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    def term(t, states):
        return states[t - skip] @ W_skip.T - states[-1] @ W_hh.T if t >= skip else 0

    return _skip_run(term, x, h0, W_xh, W_hh, b_h)


@skip_rnn_forward.mistake(
    "every-skip-steps",
    "the skip term is added only at every `skip`-th step",
    "Each state has a skip connection, not only those at multiples of `skip`.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    def term(t, states):
        return states[t - skip] @ W_skip.T if t % skip == 0 else 0

    return _skip_run(term, x, h0, W_xh, W_hh, b_h)


@skip_rnn_forward.mistake(
    "weights-exchanged",
    "`W_hh` and `W_skip` are exchanged",
    "Which matrix belongs to the state just before, which to the one further back?",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    return skips.skip_rnn_forward(x, h0, W_xh, W_skip, W_hh, b_h, skip)


@skip_rnn_forward.mistake(
    "skip-weights-missing",
    "the old state is added without `W_skip`",
    "The skip connection has weights of its own.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    return skips.skip_rnn_forward(x, h0, W_xh, W_hh, np.eye(len(W_hh)), b_h, skip)


@skip_rnn_forward.mistake(
    "same-weights",
    "`W_hh` is used for the skip too",
    "The skip connection has weights of its own.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    return skips.skip_rnn_forward(x, h0, W_xh, W_hh, W_hh, b_h, skip)


@skip_rnn_forward.mistake(
    "skip-weight-not-transposed",
    "`W_skip` is used without its transpose",
    "Weights have one row per unit; your states are rows.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    return skips.skip_rnn_forward(x, h0, W_xh, W_hh, W_skip.T, b_h, skip)


@skip_rnn_forward.mistake(
    "recurrent-weight-not-transposed",
    "`W_hh` is used without its transpose",
    "Weights have one row per unit; your states are rows.",
    section="02-vanilla-rnn: One step",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    return skips.skip_rnn_forward(x, h0, W_xh, W_hh.T, W_skip, b_h, skip)


@skip_rnn_forward.mistake(
    "initial-state-ignored",
    "the network starts from zeros in place of `h0`",
    "What is the state before the first input?",
    section=FIRST,
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    return skips.skip_rnn_forward(x, 0 * h0, W_xh, W_hh, W_skip, b_h, skip)


@skip_rnn_forward.mistake(
    "input-skipped-to",
    "the skip reads an earlier step's drive from the input, not the state",
    "The old *state* carries the memory; the old input is only a part of it.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    def term(t, states):
        return (x[t - skip - 1] @ W_xh.T) @ W_skip.T if t > skip else 0

    return _skip_run(term, x, h0, W_xh, W_hh, b_h)


@skip_rnn_forward.mistake(
    "initial-state-returned",
    "`h0` is returned as the first of T + 1 states",
    "`h[t]` is the state *after* reading `x[t]`: there are T of them.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    h = skips.skip_rnn_forward(x, h0, W_xh, W_hh, W_skip, b_h, skip)
    return np.concatenate([h0[None], h])


@skip_rnn_forward.mistake(
    "negative-index",
    "before time 0 a negative index reads from the end of the list of states",
    "`states[-1]` is the newest state, not one before the beginning. Ask first whether the state "
    "exists.",
)
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    def term(t, states):
        k = t - skip
        return states[k] @ W_skip.T if -len(states) <= k else 0

    return _skip_run(term, x, h0, W_xh, W_hh, b_h)


@skip_rnn_forward.variant("padded with zeros")
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    h = np.zeros((skip + len(x), *h0.shape))
    h[skip - 1] = h0
    for t in range(len(x)):
        new, old = h[skip + t - 1], h[t]
        h[skip + t] = np.tanh(x[t] @ W_xh.T + new @ W_hh.T + old @ W_skip.T + b_h)
    return h[skip:]


@skip_rnn_forward.variant("queue")
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    past = deque([np.zeros_like(h0)] * (skip - 1) + [h0], maxlen=skip)
    states = []
    for x_t in x:
        past.append(np.tanh(x_t @ W_xh.T + past[-1] @ W_hh.T + past[0] @ W_skip.T + b_h))
        states.append(past[-1])
    return states


@skip_rnn_forward.variant("recursion")
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    def h(t):
        if t <= 0:
            return h0 if t == 0 else np.zeros_like(h0)
        return np.tanh(x[t - 1] @ W_xh.T + h(t - 1) @ W_hh.T + h(t - skip) @ W_skip.T + b_h)

    return np.stack([h(t) for t in range(1, len(x) + 1)])


@skip_rnn_forward.variant("counted from 0")
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    a = np.einsum("tbd,hd->tbh", x, W_xh) + b_h
    h = np.empty_like(a)
    for t in range(len(x)):
        a[t] += (h0 if t == 0 else h[t - 1]) @ W_hh.T
        if t == skip - 1:
            a[t] += h0 @ W_skip.T
        elif t >= skip:
            a[t] += h[t - skip] @ W_skip.T
        h[t] = np.tanh(a[t])
    return h


@skip_rnn_forward.variant("torch inside")
def _(x, h0, W_xh, W_hh, W_skip, b_h, skip):
    import torch

    x, h0, W_xh, W_hh, W_skip, b_h = map(torch.tensor, (x, h0, W_xh, W_hh, W_skip, b_h))
    states = [h0]
    for t, x_t in enumerate(x, start=1):
        a = x_t @ W_xh.T + states[-1] @ W_hh.T + b_h
        states.append(torch.tanh(a + states[t - skip] @ W_skip.T if t >= skip else a))
    return torch.stack(states[1:]).numpy()


learned_h0_gradient = Exercise(
    name="learned_h0_gradient",
    reference=skips.learned_h0_gradient,
    section=FIRST,
    axes={"dh0": "B H"},
    returns=("dh0_param: H",),
)


@learned_h0_gradient.mistake(
    "averaged",
    "the gradient is averaged over the batch",
    "The loss already contains its mean. A parameter that is used B times gets B contributions: "
    "what does the chain rule do with them?",
)
def _(dh0):
    return dh0.mean(axis=0)


@learned_h0_gradient.mistake(
    "one-per-sequence",
    "each sequence keeps a gradient of its own",
    "Then a batch of another size could not use the parameter. There is *one* vector, from which "
    "all sequences start.",
)
def _(dh0):
    return dh0.copy()


@learned_h0_gradient.mistake(
    "summed-over-units",
    "the sum runs over the units",
    "The parameter has one entry per unit, so the units stay. Which axis is the batch?",
)
def _(dh0):
    return dh0.sum(axis=1)


@learned_h0_gradient.mistake(
    "summed-over-everything",
    "the sum runs over sequences and units",
    "The parameter has one entry per unit, and so has its gradient.",
)
def _(dh0):
    return dh0.sum()


@learned_h0_gradient.mistake(
    "first-sequence-only",
    "only the first sequence counts",
    "All sequences start from the parameter.",
)
def _(dh0):
    return dh0[0].copy()


@learned_h0_gradient.mistake(
    "last-sequence-only",
    "only the last sequence counts",
    "`=` in a loop over the batch keeps the last contribution. They must add up.",
)
def _(dh0):
    return dh0[-1].copy()


@learned_h0_gradient.mistake(
    "absolute-values",
    "absolute values are summed",
    "Contributions of opposite sign must cancel.",
)
def _(dh0):
    return np.abs(dh0).sum(axis=0)


@learned_h0_gradient.mistake(
    "axis-kept",
    "the batch axis is kept with length 1",
    "The parameter is a vector, and its gradient has the same shape.",
)
def _(dh0):
    return dh0.sum(axis=0, keepdims=True)


@learned_h0_gradient.mistake(
    "mean-over-units",
    "the mean over the units is returned",
    "One entry per unit, from all sequences: nothing is averaged.",
)
def _(dh0):
    return dh0.mean(axis=1)


@learned_h0_gradient.mistake(
    "tanh-derivative",
    "the gradient is multiplied by a derivative of tanh",
    "The initial state is the parameter itself: no tanh stands between them.",
)
def _(dh0):
    return (dh0 * (1 - np.tanh(dh0) ** 2)).sum(axis=0)


@learned_h0_gradient.form("tanh-derivative")
def _(dh0):
    return (dh0 * (1 - dh0**2)).sum(axis=0)


@learned_h0_gradient.variant("matrix product")
def _(dh0):
    return np.ones(len(dh0)) @ dh0


@learned_h0_gradient.variant("einsum")
def _(dh0):
    return np.einsum("bh->h", dh0)


@learned_h0_gradient.variant("loop")
def _(dh0):
    total = np.zeros(dh0.shape[1])
    for row in dh0:
        total += row
    return total


@learned_h0_gradient.variant("list")
def _(dh0):
    return [sum(column) for column in zip(*dh0, strict=True)]


@learned_h0_gradient.variant("mean times B")
def _(dh0):
    return dh0.mean(0) * dh0.shape[0]


@learned_h0_gradient.variant("torch inside")
def _(dh0):
    import torch

    return torch.tensor(np.array(dh0)).sum(0).numpy()
