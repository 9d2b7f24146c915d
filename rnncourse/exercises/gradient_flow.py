"""Assignment 03: Jacobians, their products and bounds, and how far a gradient reaches."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import functools
import itertools

import numpy as np

from rnncourse import gradient_flow
from rnncourse.exercises.spec import Case, Exercise, normal

PRODUCT = "04-gradient-flow: A product of Jacobians"
LINEAR = "04-gradient-flow: The linear network: the spectral radius, in the long run"
TRANSIENT = "04-gradient-flow: Growth below one: non-normal matrices"
BOUND = "04-gradient-flow: The nonlinear network: what the norm bound says"
RADIUS = "04-gradient-flow: What the spectral radius does not decide"
SATURATION = "04-gradient-flow: Inputs and saturation move the boundary"
HORIZON = "04-gradient-flow: The memory horizon, measured"
ONE = ({"T": 5, "B": 3, "D": 2, "H": 4, "V": 6},)


def _recurrent(rng, H):
    """Return weights whose powers stay within a few orders of magnitude."""
    return 1.3 * H**-0.5 * normal(rng, H, H)


def _states(rng, *shape):
    return np.tanh(0.7 * normal(rng, *shape))


def _jacobian_cases(rng, s):
    yield Case((np.zeros(s.H), _recurrent(rng, s.H)), "all states are zero")
    h = _states(rng, s.H)
    h[0], h[-1] = 1.0, -1.0
    yield Case((h, _recurrent(rng, s.H)), "two units are fully saturated")
    yield Case((_states(rng, 1), np.array([[1.5]])), "a single unit")


step_jacobian = Exercise(
    name="step_jacobian",
    reference=gradient_flow.step_jacobian,
    section=PRODUCT,
    axes={"h": "H", "W_hh": "H H"},
    returns=("J: H H",),
    draw=lambda rng, s: (_states(rng, s.H), _recurrent(rng, s.H)),
    special=_jacobian_cases,
)


@step_jacobian.mistake(
    "columns-scaled",
    "the columns of `W_hh` are scaled in place of its rows",
    "Broadcasting a vector against a matrix runs along columns. The slope of unit i belongs to "
    "everything that goes *into* unit i: which row or column of `W_hh` is that?",
)
def _(h, W_hh):
    return W_hh * (1 - h**2)


@step_jacobian.mistake(
    "derivative-missing",
    "the derivative of tanh is missing",
    "You return `W_hh` itself: the Jacobian of a linear network, or of a tanh at zero. What does "
    "the tanh do to a small change?",
)
def _(h, W_hh):
    return W_hh.copy()


@step_jacobian.mistake(
    "square-missing",
    "the derivative is taken as 1 - h in place of 1 - h²",
    "A tanh is as steep at -a as at a. Is your factor the same for h and for -h?",
)
def _(h, W_hh):
    return (1 - h)[:, None] * W_hh


@step_jacobian.mistake(
    "tanh-twice",
    "the derivative takes the tanh of `h`, which is a tanh already",
    "The slope is 1 - tanh(a)² with a *before* the tanh. What does `h` hold?",
)
def _(h, W_hh):
    return (1 - np.tanh(h) ** 2)[:, None] * W_hh


@step_jacobian.mistake(
    "result-transposed",
    "the Jacobian is transposed",
    "Row i belongs to the unit *after* the step, column j to the unit before it.",
)
def _(h, W_hh):
    return W_hh.T * (1 - h**2)


@step_jacobian.mistake(
    "weights-transposed",
    "`W_hh` is transposed",
    "For one state as a column the step is tanh(W_hh h + …). The transpose in code is there only "
    "because a batch holds states as rows.",
)
def _(h, W_hh):
    return (1 - h**2)[:, None] * W_hh.T


@step_jacobian.mistake(
    "sigmoid-derivative",
    "the derivative is that of the logistic sigmoid, h(1 - h)",
    "Your factor is 0 at h = 0, where tanh is steepest.",
)
def _(h, W_hh):
    return (h * (1 - h))[:, None] * W_hh


@step_jacobian.mistake(
    "one-slope-for-all",
    "one slope is used for all units",
    "Each unit stands at its own point of the tanh and has its own slope. That is why the equation "
    "has a diagonal matrix, not a number.",
)
def _(h, W_hh):
    return np.mean(1 - h**2) * W_hh


@step_jacobian.form("one-slope-for-all")
def _(h, W_hh):
    return (1 - h @ h) * W_hh


@step_jacobian.mistake(
    "only-the-diagonal",
    "the diagonal matrix is multiplied entry by entry",
    "Outside the diagonal your result is 0, so no unit depends on another. Which product of two "
    "matrices does the equation mean?",
)
def _(h, W_hh):
    return np.diag(1 - h**2) * W_hh


@step_jacobian.mistake(
    "vector-not-matrix",
    "the slopes are multiplied into `W_hh` as a vector, which sums over units",
    "A Jacobian has one entry for each *pair* of units. Scaling rows must not sum over them.",
)
def _(h, W_hh):
    return (1 - h**2) @ W_hh


@step_jacobian.form("vector-not-matrix")
def _(h, W_hh):
    return W_hh @ (1 - h**2)


@step_jacobian.mistake(
    "derivative-inverted",
    "`W_hh` is divided by the derivative of tanh",
    "A saturated unit lets nothing through; in your version it lets the most through.",
)
def _(h, W_hh):
    with np.errstate(divide="ignore"):
        return W_hh / (1 - h**2)[:, None]


@step_jacobian.mistake(
    "derivative-sign",
    "the derivative of tanh has the wrong sign",
    "tanh never falls, so its slope is never negative.",
)
def _(h, W_hh):
    return (h**2 - 1)[:, None] * W_hh


@step_jacobian.mistake(
    "root-of-slope",
    "the slope is taken as the root of 1 - h²",
    "sin and cos have that relation. The derivative of tanh is 1 - tanh², without a root.",
)
def _(h, W_hh):
    return np.sqrt(1 - h**2)[:, None] * W_hh


@step_jacobian.variant("diagonal matrix")
def _(h, W_hh):
    return np.diag(1 - np.square(h)) @ W_hh


@step_jacobian.variant("einsum")
def _(h, W_hh):
    return np.einsum("i,ij->ij", (1 - h) * (1 + h), W_hh)


@step_jacobian.variant("loops")
def _(h, W_hh):
    J = [[0.0] * len(h) for _ in h]
    for i, j in itertools.product(range(len(h)), repeat=2):
        J[i][j] = (1 - h[i] ** 2) * W_hh[i, j]
    return J


@step_jacobian.variant("transposed twice")
def _(h, W_hh):
    return ((1 - h * h) * W_hh.T).T


@step_jacobian.variant("row by row")
def _(h, W_hh):
    return np.stack([slope * row for slope, row in zip(1 - h**2, W_hh, strict=True)])


@step_jacobian.variant("torch autograd")
def _(h, W_hh):
    import torch

    a = torch.atanh(torch.tensor(h).clamp(-1 + 1e-15, 1 - 1e-15))
    slopes = torch.autograd.functional.jacobian(torch.tanh, a)
    return (slopes @ torch.tensor(W_hh)).numpy()


def _product_cases(rng, s):
    h = _states(rng, 12, s.H)
    yield Case((h, 1.5 * _recurrent(rng, s.H)), "a long sequence")
    shear = np.diag([0.9, 0.8]) + np.array([[0.0, 6.0], [0.0, 0.0]])
    yield Case((0.2 * _states(rng, 6, 2), shear), "the norm grows before it shrinks")
    h = _states(rng, 5, s.H)
    h[2] = 1.0
    yield Case((h, _recurrent(rng, s.H)), "all units are saturated at one step")
    yield Case((_states(rng, 4, 1), np.array([[-1.7]])), "a single unit")


jacobian_product_norms = Exercise(
    name="jacobian_product_norms",
    reference=gradient_flow.jacobian_product_norms,
    section=PRODUCT,
    axes={"h": "T H", "W_hh": "H H"},
    returns=("norms",),
    draw=lambda rng, s: (_states(rng, s.T, s.H), _recurrent(rng, s.H)),
    special=_product_cases,
)


def _jacobians(h, W_hh):
    return [(1 - h_t**2)[:, None] * W_hh for h_t in h]


def _norms_of(jacobians, H, norm=lambda product: np.linalg.norm(product, 2)):
    """Return norms of the running products J_k … J_1, the identity first."""
    products = itertools.accumulate(jacobians, lambda P, J: J @ P, initial=np.eye(H))
    return np.array([norm(P) for P in products])


@jacobian_product_norms.mistake(
    "frobenius-norm",
    "the Frobenius norm is taken",
    "Without its second argument `np.linalg.norm` adds the squares of all entries. The spectral "
    "norm is the most that a matrix can stretch a vector.",
)
def _(h, W_hh):
    return _norms_of(_jacobians(h, W_hh), len(W_hh), np.linalg.norm)


@jacobian_product_norms.form("frobenius-norm")
def _(h, W_hh):
    norms = _norms_of(_jacobians(h, W_hh), len(W_hh), np.linalg.norm)
    return np.append(1.0, norms[1:])


@jacobian_product_norms.mistake(
    "identity-left-out",
    "the entry for 0 steps is missing",
    "T steps have T + 1 products: over 0 steps the product is the identity. With it, a position in "
    "the array is a number of steps.",
)
def _(h, W_hh):
    return _norms_of(_jacobians(h, W_hh), len(W_hh))[1:]


@jacobian_product_norms.mistake(
    "wrong-order",
    "a new Jacobian is multiplied to the right of the product",
    "Matrices do not commute. The chain rule from h_0 to h_k: on which side does the last step's "
    "Jacobian stand?",
)
def _(h, W_hh):
    products = itertools.accumulate(
        _jacobians(h, W_hh), lambda P, J: P @ J, initial=np.eye(len(W_hh))
    )
    return np.array([np.linalg.norm(P, 2) for P in products])


@jacobian_product_norms.mistake(
    "product-of-norms",
    "the norms of the single steps are multiplied",
    "That is an upper bound: it assumes that each step stretches just the direction which the step "
    "before it stretched most. Multiply the matrices, then take the norm.",
    section=BOUND,
)
def _(h, W_hh):
    return np.cumprod([1.0, *(np.linalg.norm(J, 2) for J in _jacobians(h, W_hh))])


@jacobian_product_norms.mistake(
    "radius-of-product",
    "the spectral radius of the product is taken, not its norm",
    "Eigenvalues tell what happens if the *same* matrix is applied again and again. How far can "
    "one product stretch a vector?",
    section=RADIUS,
)
def _(h, W_hh):
    return _norms_of(_jacobians(h, W_hh), len(W_hh), lambda P: np.abs(np.linalg.eigvals(P)).max())


@jacobian_product_norms.mistake(
    "derivative-missing",
    "the derivative of tanh is missing, so the network is linear",
    "Your norms do not depend on `h`. Every step has its own slopes.",
)
def _(h, W_hh):
    return _norms_of([W_hh] * len(h), len(W_hh))


@jacobian_product_norms.mistake(
    "columns-scaled",
    "the columns of `W_hh` are scaled by the slopes in place of its rows",
    "The slope of unit i acts on everything that goes *into* unit i.",
)
def _(h, W_hh):
    return _norms_of([W_hh * (1 - h_t**2) for h_t in h], len(W_hh))


@jacobian_product_norms.mistake(
    "square-missing",
    "the derivative is taken as 1 - h in place of 1 - h²",
    "A tanh is as steep at -a as at a. Is your factor the same for h and for -h?",
)
def _(h, W_hh):
    return _norms_of([(1 - h_t)[:, None] * W_hh for h_t in h], len(W_hh))


@jacobian_product_norms.mistake(
    "tanh-twice",
    "the derivative takes the tanh of `h`, which is a tanh already",
    "The slope is 1 - tanh(a)² with a *before* the tanh. What does `h` hold?",
)
def _(h, W_hh):
    return _norms_of([(1 - np.tanh(h_t) ** 2)[:, None] * W_hh for h_t in h], len(W_hh))


@jacobian_product_norms.mistake(
    "states-one-late",
    "the slopes are those of the state before each step",
    "`h[t]` is the state *after* step t, and the tanh of step t produced it. Which state tells how "
    "steep that tanh was?",
)
def _(h, W_hh):
    return _norms_of(_jacobians(np.concatenate([0 * h[:1], h[:-1]]), W_hh), len(W_hh))


@jacobian_product_norms.mistake(
    "weights-transposed",
    "`W_hh` is transposed",
    "For one state as a column the step is tanh(W_hh h + …), without a transpose.",
)
def _(h, W_hh):
    return _norms_of(_jacobians(h, W_hh.T), len(W_hh))


@jacobian_product_norms.mistake(
    "counted-from-the-end",
    "the products begin at the last step and go back",
    "Entry k is about h_k and h_0, so the first k steps count. You compute how h_T depends on the "
    "state k steps before it.",
)
def _(h, W_hh):
    products = itertools.accumulate(
        _jacobians(h, W_hh)[::-1], lambda P, J: P @ J, initial=np.eye(len(W_hh))
    )
    return np.array([np.linalg.norm(P, 2) for P in products])


@jacobian_product_norms.mistake(
    "not-multiplied",
    "each step's own norm is returned; nothing is multiplied",
    "Entry k must tell what is left after *all* of the first k steps.",
)
def _(h, W_hh):
    return np.array([1.0, *(np.linalg.norm(J, 2) for J in _jacobians(h, W_hh))])


@jacobian_product_norms.mistake(
    "only-the-last",
    "only the norm over all steps is returned",
    "The curve over k is wanted: one norm for each number of steps from 0 to T.",
)
def _(h, W_hh):
    return _norms_of(_jacobians(h, W_hh), len(W_hh))[-1]


@jacobian_product_norms.mistake(
    "norm-squared",
    "the square of the norm is returned",
    "The largest eigenvalue of PᵀP is the *square* of the largest singular value of P.",
)
def _(h, W_hh):
    return _norms_of(_jacobians(h, W_hh), len(W_hh)) ** 2


@jacobian_product_norms.mistake(
    "smallest-singular-value",
    "the smallest singular value is taken",
    "That is the direction which fades fastest. The norm is about the one that lasts longest.",
    section="04-gradient-flow: One number is not enough: the fan of singular values",
)
def _(h, W_hh):
    return _norms_of(_jacobians(h, W_hh), len(W_hh), lambda P: np.linalg.norm(P, -2))


@jacobian_product_norms.mistake(
    "logarithm",
    "the logarithm of the norms is returned",
    "Take the logarithm for the plot. Over 0 steps the norm is 1.",
)
def _(h, W_hh):
    with np.errstate(divide="ignore"):
        return np.log(_norms_of(_jacobians(h, W_hh), len(W_hh)))


@jacobian_product_norms.variant("svd of all products")
def _(h, W_hh):
    P = np.empty((len(h) + 1, *W_hh.shape))
    P[0] = np.eye(len(W_hh))
    for k in range(len(h)):
        P[k + 1] = (1 - h[k] ** 2).reshape(-1, 1) * (W_hh @ P[k])
    return np.linalg.svd(P, compute_uv=False)[:, 0]


@jacobian_product_norms.variant("transposed products")
def _(h, W_hh):
    backwards, norms = np.eye(len(W_hh)), [1]
    for h_t in h:
        backwards = backwards @ (W_hh.T * (1 - h_t**2))
        norms.append(float(np.linalg.svd(backwards)[1].max()))
    return norms


@jacobian_product_norms.variant("each product anew")
def _(h, W_hh):
    def product(k):
        return functools.reduce(
            lambda P, t: np.diag(1 - h[t] ** 2) @ W_hh @ P, range(k), np.eye(len(W_hh))
        )

    return np.array([np.linalg.norm(product(k), ord=2) for k in range(len(h) + 1)])


@jacobian_product_norms.variant("eigenvalues of PᵀP")
def _(h, W_hh):
    P, norms = np.eye(len(W_hh)), np.ones(len(h) + 1)
    for k, h_t in enumerate(h, start=1):
        P = np.einsum("i,ij,jk->ik", 1 - h_t**2, W_hh, P)
        norms[k] = np.sqrt(max(np.linalg.eigvalsh(P.T @ P)[-1], 0))
    return norms


@jacobian_product_norms.variant("torch inside")
def _(h, W_hh):
    import torch

    h, W = torch.tensor(h), torch.tensor(W_hh)
    P = [torch.eye(len(W), dtype=W.dtype)]
    for h_t in h:
        P.append((1 - h_t**2)[:, None] * W @ P[-1])
    return torch.linalg.matrix_norm(torch.stack(P), ord=2).numpy()


def _radius_cases(rng, s):
    a = 0.3 + 0.6 * rng.random()
    turn = np.array([[0.1 * a, -a], [a, 0.1 * a]])
    yield Case((turn,), "a rotation: both eigenvalues are complex")
    yield Case((np.diag([0.2, 0.5, -0.5 - a]),), "the largest eigenvalue is negative")
    yield Case((np.array([[a, 12.0], [0.0, -0.4 * a]]),), "a shear: small eigenvalues, large norm")
    yield Case((np.array([[0.1, 0.2], [0.2, 0.1 + a]]),), "a symmetric matrix")
    yield Case((np.array([[-a]]),), "a single entry, negative")
    block = np.zeros((3, 3))
    block[:2, :2], block[2, 2] = 1.5 * turn, a
    yield Case((block,), "a complex pair is larger than the real eigenvalue")


spectral_radius = Exercise(
    name="spectral_radius",
    reference=gradient_flow.spectral_radius,
    section=LINEAR,
    axes={"W": "H H"},
    returns=("radius",),
    draw=lambda rng, s: (_recurrent(rng, s.H),),
    special=_radius_cases,
)


@spectral_radius.mistake(
    "largest-singular-value",
    "the largest singular value is returned",
    "That is the spectral *norm*: how far one application stretches a vector. The radius is about "
    "many applications. For a shear the two differ widely.",
    section=TRANSIENT,
)
def _(W):
    return np.linalg.norm(W, 2)


@spectral_radius.mistake(
    "no-absolute-value",
    "the largest eigenvalue is taken without its absolute value",
    "An eigenvalue of -0.9 grows and shrinks just as 0.9 does, with alternating sign. How far from "
    "zero does the spectrum reach?",
)
def _(W):
    return np.linalg.eigvals(W).real.max()


@spectral_radius.mistake(
    "absolute-value-last",
    "the eigenvalue with the largest real part is chosen, and its absolute value taken then",
    "First the absolute values, then the largest of them. The other order misses -0.9 next to 0.5.",
)
def _(W):
    return abs(np.linalg.eigvals(W).max())


@spectral_radius.mistake(
    "imaginary-part-dropped",
    "the imaginary parts of the eigenvalues are dropped",
    "A rotation has imaginary eigenvalues and does not shrink anything. The absolute value of a "
    "complex number uses both of its parts.",
)
def _(W):
    return np.abs(np.linalg.eigvals(W).real).max()


@spectral_radius.mistake(
    "symmetric-solver",
    "a solver for symmetric matrices is used",
    "`eigh` and `eigvalsh` read one triangle of the matrix and assume that the other mirrors it. "
    "Recurrent weights are not symmetric.",
)
def _(W):
    return np.abs(np.linalg.eigvalsh(W)).max()


@spectral_radius.form("symmetric-solver")
def _(W):
    return np.abs(np.linalg.eigvalsh((W + W.T) / 2)).max()


@spectral_radius.mistake(
    "first-eigenvalue",
    "the first eigenvalue is taken as if they were sorted",
    "`eigvals` returns eigenvalues in no useful order.",
)
def _(W):
    return abs(np.linalg.eigvals(W)[0])


@spectral_radius.mistake(
    "last-eigenvalue",
    "the last eigenvalue is taken as if they were sorted",
    "`eigvals` returns eigenvalues in no useful order.",
)
def _(W):
    return abs(np.linalg.eigvals(W)[-1])


@spectral_radius.mistake(
    "mean-of-eigenvalues",
    "the absolute eigenvalues are averaged",
    "After many steps only the largest survives, so no mean can tell the growth.",
)
def _(W):
    return np.abs(np.linalg.eigvals(W)).mean()


@spectral_radius.mistake(
    "smallest-eigenvalue",
    "the smallest absolute eigenvalue is taken",
    "In the long run the direction that shrinks least decides.",
)
def _(W):
    return np.abs(np.linalg.eigvals(W)).min()


@spectral_radius.mistake(
    "largest-diagonal-entry",
    "the largest entry of the diagonal is taken",
    "The diagonal holds the eigenvalues of a triangular matrix only.",
)
def _(W):
    return np.abs(np.diag(W)).max()


@spectral_radius.mistake(
    "largest-entry",
    "the largest absolute entry is taken",
    "That is a norm of the entries. Look for the *eigenvalues*.",
)
def _(W):
    return np.abs(W).max()


@spectral_radius.mistake(
    "frobenius-norm",
    "the Frobenius norm is returned",
    "A norm is an upper bound of the radius, no more. Look for the *eigenvalues*.",
)
def _(W):
    return np.linalg.norm(W)


@spectral_radius.mistake(
    "root-of-determinant",
    "the geometric mean of the eigenvalues is returned",
    "The determinant is the product of all eigenvalues; the radius is about the largest.",
)
def _(W):
    return abs(np.linalg.det(W)) ** (1 / len(W))


@spectral_radius.mistake(
    "radius-squared",
    "the square of the radius is returned",
    "The absolute value of a + bi is the *root* of a² + b².",
)
def _(W):
    return (np.abs(np.linalg.eigvals(W)) ** 2).max()


@spectral_radius.variant("eig")
def _(W):
    eigenvalues, _ = np.linalg.eig(W)
    return max(abs(e) for e in eigenvalues)


@spectral_radius.variant("characteristic polynomial")
def _(W):
    return np.abs(np.roots(np.poly(W))).max()


@spectral_radius.variant("real and imaginary part")
def _(W):
    e = np.linalg.eigvals(W.T)
    return np.sqrt(np.max(np.real(e) ** 2 + np.imag(e) ** 2))


@spectral_radius.variant("sorted")
def _(W):
    return sorted(np.linalg.eigvals(W), key=abs)[-1].__abs__()


@spectral_radius.variant("torch inside")
def _(W):
    import torch

    return torch.linalg.eigvals(torch.tensor(W)).abs().max().item()


def _linear_cases(rng, s):
    yield Case((_recurrent(rng, s.H), 0), "T = 0")
    yield Case((_recurrent(rng, 3), 1), "T = 1")
    yield Case((np.array([[0.9, 10.0], [0.0, 0.8]]), 9), "a shear: the norm grows first")
    a = 0.8 + 0.15 * rng.random()
    turn = np.array([[0.0, -a], [a, 0.0]])
    yield Case((turn, 7), "a rotation that shrinks")
    yield Case((np.eye(3), 4), "the identity")
    yield Case((np.array([[0.0, 3.0], [0.0, 0.0]]), 3), "nothing is left after two steps")


linear_gradient_norms = Exercise(
    name="linear_gradient_norms",
    reference=gradient_flow.linear_gradient_norms,
    section=LINEAR,
    axes={"W": "H H", "T": ""},
    returns=("norms",),
    draw=lambda rng, s: (_recurrent(rng, s.H), s.T + 2),
    special=_linear_cases,
)


def _powers(W, T):
    return [np.linalg.matrix_power(W, k) for k in range(T + 1)]


@linear_gradient_norms.mistake(
    "radius-to-the-power",
    "the spectral radius is raised to the power k",
    "That is the growth in the long run, and exact for normal matrices only. A shear first grows: "
    "your curve cannot.",
    section=TRANSIENT,
)
def _(W, T):
    return np.abs(np.linalg.eigvals(W)).max() ** np.arange(T + 1)


@linear_gradient_norms.mistake(
    "norm-to-the-power",
    "the norm of W is raised to the power k",
    "‖Wᵏ‖ ≤ ‖W‖ᵏ is an upper bound. Take the power of the matrix first, then the norm.",
    section=BOUND,
)
def _(W, T):
    return np.linalg.norm(W, 2) ** np.arange(T + 1)


@linear_gradient_norms.mistake(
    "identity-left-out",
    "the entry for k = 0 is missing",
    "W⁰ is the identity. With it, a position in the array is a number of steps.",
)
def _(W, T):
    return np.array([np.linalg.norm(P, 2) for P in _powers(W, T)[1:]])


@linear_gradient_norms.mistake(
    "last-power-left-out",
    "the powers end at T - 1",
    "k runs from 0 to T, *both* included. Where does `range` stop?",
)
def _(W, T):
    return np.array([np.linalg.norm(P, 2) for P in _powers(W, T)[:-1]])


@linear_gradient_norms.mistake(
    "powers-of-entries",
    "the entries are raised to the power k",
    "`W**k` and `*` work entry by entry. A power of a matrix is a repeated matrix product.",
)
def _(W, T):
    return np.array([np.linalg.norm(W**k, 2) for k in range(T + 1)])


@linear_gradient_norms.form("powers-of-entries")
def _(W, T):
    return np.array([1.0, *(np.linalg.norm(W**k, 2) for k in range(1, T + 1))])


@linear_gradient_norms.form("powers-of-entries")
def _(W, T):
    return np.array([np.linalg.norm(np.eye(len(W)) * W**k, 2) for k in range(T + 1)])


@linear_gradient_norms.mistake(
    "frobenius-norm",
    "the Frobenius norm is taken",
    "Over 0 steps nothing changes, so the factor is 1. Which norm gives 1 for the identity of any "
    "size?",
)
def _(W, T):
    return np.array([np.linalg.norm(P) for P in _powers(W, T)])


@linear_gradient_norms.form("frobenius-norm")
def _(W, T):
    return np.array([1.0, *(np.linalg.norm(P) for P in _powers(W, T)[1:])])


@linear_gradient_norms.mistake(
    "only-the-last",
    "only the norm of the last power is returned",
    "The curve over k is wanted: one norm for each number of steps from 0 to T.",
)
def _(W, T):
    return np.linalg.norm(np.linalg.matrix_power(W, T), 2)


@linear_gradient_norms.mistake(
    "squared-at-each-step",
    "the product is multiplied by itself at each step",
    "Your exponents are 1, 2, 4, 8 … Each step adds *one* factor W.",
)
def _(W, T):
    powers = [np.eye(len(W)), *([W] if T else [])]
    while len(powers) <= T:
        powers.append(powers[-1] @ powers[-1])
    return np.array([np.linalg.norm(P, 2) for P in powers])


@linear_gradient_norms.mistake(
    "norm-squared",
    "the square of the norm is returned",
    "The largest eigenvalue of PᵀP is the *square* of the largest singular value of P.",
)
def _(W, T):
    return np.array([np.linalg.norm(P, 2) ** 2 for P in _powers(W, T)])


@linear_gradient_norms.mistake(
    "largest-entry",
    "the largest absolute entry of each power is taken",
    "The spectral norm is the largest singular value, not the largest entry.",
)
def _(W, T):
    return np.array([np.abs(P).max() for P in _powers(W, T)])


@linear_gradient_norms.mistake(
    "sum-norm",
    "a norm of row or column sums is taken",
    "`ord=1` and `ord=np.inf` add up columns and rows. Which `ord` gives the largest singular "
    "value?",
)
def _(W, T):
    return np.array([np.linalg.norm(P, 1) for P in _powers(W, T)])


@linear_gradient_norms.form("sum-norm")
def _(W, T):
    return np.array([np.linalg.norm(P, np.inf) for P in _powers(W, T)])


@linear_gradient_norms.mistake(
    "all-ones",
    "nothing but ones comes back: the product never changes",
    "Each turn of the loop must multiply one more W into the product and keep the result.",
)
def _(W, T):
    return np.ones(T + 1)


@linear_gradient_norms.variant("running product")
def _(W, T):
    P, norms = np.eye(len(W)), np.empty(T + 1)
    for k in range(T + 1):
        norms[k] = np.linalg.norm(P, ord=2)
        P = P @ W
    return norms


@linear_gradient_norms.variant("svd of a stack")
def _(W, T):
    return np.linalg.svd(np.stack(_powers(W, T)), compute_uv=False).max(axis=1)


@linear_gradient_norms.variant("transposed")
def _(W, T):
    norms, P = [1], W.T
    for _ in range(T):
        norms.append(np.sqrt(np.linalg.eigvalsh(P @ P.T).clip(0).max()))
        P = W.T @ P
    return norms


@linear_gradient_norms.variant("tanh network at zero")
def _(W, T):
    return _norms_of(_jacobians(np.zeros((T, len(W))), W), len(W))


@linear_gradient_norms.variant("torch inside")
def _(W, T):
    import torch

    P = [torch.linalg.matrix_power(torch.tensor(W), k) for k in range(T + 1)]
    return torch.linalg.matrix_norm(torch.stack(P), ord=2).numpy()


def _bound_cases(rng, s):
    yield Case((_recurrent(rng, s.H), 4, 0.25), "a logistic network, gamma = 1/4")
    yield Case((_recurrent(rng, s.H), 0, 0.7), "T = 0")
    yield Case((np.array([[0.0, 2.0], [0.0, 0.0]]), 3, 0.9), "all eigenvalues are 0")
    yield Case((-0.8 * np.eye(3), 5, 1.0), "a negative matrix")
    yield Case((_recurrent(rng, s.H), 3, 1.2 + 0.3 * rng.random()), "gamma is larger than 1")


norm_bounds = Exercise(
    name="norm_bounds",
    reference=gradient_flow.norm_bounds,
    section=BOUND,
    axes={"W_hh": "H H", "T": "", "gamma": ""},
    returns=("bounds",),
    draw=lambda rng, s: (_recurrent(rng, s.H), s.T + 2, 0.6 + 0.3 * rng.random()),
    special=_bound_cases,
)


def _sigma(W):
    return np.linalg.norm(W, 2)


@norm_bounds.mistake(
    "radius-for-norm",
    "the spectral radius is used in place of the spectral norm",
    "No bound: a matrix with radius 0 can still stretch, and the states of a tanh network can use "
    "that at every step. Which number limits the stretch of *one* step?",
    section=RADIUS,
)
def _(W_hh, T, gamma):
    return (gamma * np.abs(np.linalg.eigvals(W_hh)).max()) ** np.arange(T + 1)


@norm_bounds.mistake(
    "gamma-ignored",
    "`gamma` is not used",
    "The slope of the activation acts at every step. For the logistic function it is at most 1/4.",
)
def _(W_hh, T, gamma):
    return _sigma(W_hh) ** np.arange(T + 1)


@norm_bounds.mistake(
    "gamma-once",
    "`gamma` is applied once, not at each step",
    "Each of the k steps passes an activation. How often does its slope enter?",
)
def _(W_hh, T, gamma):
    return gamma * _sigma(W_hh) ** np.arange(T + 1)


@norm_bounds.form("gamma-once")
def _(W_hh, T, gamma):
    bounds = gamma * _sigma(W_hh) ** np.arange(T + 1)
    bounds[0] = 1
    return bounds


@norm_bounds.mistake(
    "frobenius-norm",
    "the Frobenius norm is taken",
    "That bounds too, but loosely: for an orthogonal matrix it says √H where the truth is 1.",
)
def _(W_hh, T, gamma):
    return (gamma * np.linalg.norm(W_hh)) ** np.arange(T + 1)


@norm_bounds.mistake(
    "starts-at-one-step",
    "the entry for 0 steps is missing",
    "Over 0 steps the factor is 1. With it, a position in the array is a number of steps.",
)
def _(W_hh, T, gamma):
    return (gamma * _sigma(W_hh)) ** np.arange(1, T + 1)


@norm_bounds.mistake(
    "last-step-left-out",
    "the bound for T steps is missing",
    "k runs from 0 to T, *both* included.",
)
def _(W_hh, T, gamma):
    return (gamma * _sigma(W_hh)) ** np.arange(T)


@norm_bounds.mistake(
    "true-norms",
    "the norms of the powers of gamma · W are returned",
    "That is what a *linear* network does. The slopes of a tanh network change from step to step, "
    "so only each step by itself can be bounded.",
    section=LINEAR,
)
def _(W_hh, T, gamma):
    return np.array([_sigma(P) for P in _powers(gamma * W_hh, T)])


@norm_bounds.mistake(
    "multiple-not-power",
    "the factor is multiplied by k, not raised to the power k",
    "Two steps that each double make a factor of 4; three make 8.",
)
def _(W_hh, T, gamma):
    return gamma * _sigma(W_hh) * np.arange(T + 1)


@norm_bounds.form("multiple-not-power")
def _(W_hh, T, gamma):
    return np.maximum(1, gamma * _sigma(W_hh) * np.arange(T + 1))


@norm_bounds.mistake(
    "capped-at-one",
    "the bounds are capped at 1",
    "A norm above 1 allows gradients to grow, and a bound must say so.",
)
def _(W_hh, T, gamma):
    return np.minimum((gamma * _sigma(W_hh)) ** np.arange(T + 1), 1)


@norm_bounds.mistake(
    "divided-by-gamma",
    "the norm is divided by `gamma`",
    "A flatter activation passes *less*. Does your bound fall when `gamma` falls?",
)
def _(W_hh, T, gamma):
    return (_sigma(W_hh) / gamma) ** np.arange(T + 1)


@norm_bounds.mistake(
    "smallest-singular-value",
    "the smallest singular value is taken",
    "An upper bound needs the most that a step can stretch.",
)
def _(W_hh, T, gamma):
    return (gamma * np.linalg.norm(W_hh, -2)) ** np.arange(T + 1)


@norm_bounds.mistake(
    "only-the-last",
    "only the bound over T steps is returned",
    "The curve over k is wanted: one bound for each number of steps from 0 to T.",
)
def _(W_hh, T, gamma):
    return (gamma * _sigma(W_hh)) ** T


@norm_bounds.variant("cumulative product")
def _(W_hh, T, gamma):
    factors = np.full(T + 1, gamma * np.linalg.svd(W_hh, compute_uv=False)[0])
    factors[0] = 1
    return np.cumprod(factors)


@norm_bounds.variant("list")
def _(W_hh, T, gamma):
    factor = gamma * float(np.sqrt(np.linalg.eigvalsh(W_hh.T @ W_hh)[-1]))
    return [factor**k for k in range(T + 1)]


@norm_bounds.variant("np.power")
def _(W_hh, T, gamma):
    return np.power(np.linalg.norm(gamma * W_hh.T, ord=2), np.arange(0, T + 1, 1))


@norm_bounds.variant("exp of log")
def _(W_hh, T, gamma):
    return np.exp(np.linspace(0, T, T + 1) * np.log(gamma * np.linalg.svd(W_hh)[1].max()))


@norm_bounds.variant("torch inside")
def _(W_hh, T, gamma):
    import torch

    sigma = torch.linalg.matrix_norm(torch.tensor(W_hh), ord=2)
    return ((gamma * sigma) ** torch.arange(T + 1)).numpy()


def _decay(rng, T, rate):
    """Return 1 and then T factors that shrink, each by a rate of its own."""
    return np.cumprod([1.0, *(rate * (0.9 + 0.2 * rng.random(T)))])


def _horizon_cases(rng, s):
    yield Case((_decay(rng, 12, 0.85), 0.3), "the norms shrink")
    yield Case((np.array([1.0, 0.5, 0.25, 0.125, 0.0625]), 0.25), "a norm equals the threshold")
    t = 0.31 + 0.05 * rng.random()
    hump = np.array([1.0, 0.6, 0.1, 0.2, 0.9, 0.7, 0.05, 0.01])
    yield Case((hump, t), "the norms fall below the threshold and rise again")
    hump = np.array([1.0, 4.0, 9.0, 5.0, 2.0, 0.8, 0.15, 0.1])
    yield Case((hump, t), "the norms grow first")
    yield Case((_decay(rng, 5, 0.97), 0.05), "no norm falls below the threshold")
    yield Case((np.array([1.0, 0.8, 0.3, 0.2]), 1.5), "no norm reaches the threshold")
    yield Case((np.array([1.0, 0.02, 0.01]), t), "all is forgotten after one step")
    yield Case((np.array([1.0]), t), "a single norm, for 0 steps")
    yield Case((1.2 ** np.arange(7), 1.3), "the norms only grow")
    yield Case((np.array([0.1, 0.2, 0.9, 0.2, 0.1]), t), "a single norm reaches the threshold")
    valley = np.array([1.0, 0.2, 0.1, 0.05, 0.02, 0.04, 0.9])
    yield Case((valley, t), "the norms are below the threshold for long, and the last is above it")
    near = t * np.array([3.0, 2.0, 1 + 1e-4, 1 - 1e-4, 0.5])
    yield Case((near, t), "one norm lies just above the threshold and one just below")


memory_horizon = Exercise(
    name="memory_horizon",
    reference=gradient_flow.memory_horizon,
    section=HORIZON,
    axes={"norms": "", "threshold": ""},
    returns=("steps",),
    sizes=ONE,
    draw=lambda rng, s: (_decay(rng, 30, 0.9), 0.12 + 0.1 * rng.random()),
    special=_horizon_cases,
)


@memory_horizon.mistake(
    "first-crossing",
    "the search stops where the norms first fall below the threshold",
    "Norms of products may rise again. The *largest* number of steps with enough left is wanted, "
    "so look from the far end.",
    section=TRANSIENT,
)
def _(norms, threshold):
    k = 0
    while k + 1 < len(norms) and norms[k + 1] >= threshold:
        k += 1
    return k


@memory_horizon.form("first-crossing")
def _(norms, threshold):
    below = norms < threshold
    return max(int(below.argmax()) - 1, 0) if below.any() else len(norms) - 1


@memory_horizon.form("first-crossing")
def _(norms, threshold):
    return int(np.argmax(norms < threshold)) - 1


@memory_horizon.mistake(
    "sorted-norms-assumed",
    "the search halves the range again and again, as if the norms only fell",
    "Halving finds the place in a sorted list. Norms of products may fall and rise again.",
    section=TRANSIENT,
)
def _(norms, threshold):
    return max(int(np.searchsorted(-norms, -threshold, side="right")) - 1, 0)


@memory_horizon.mistake(
    "first-forgotten-step",
    "the first step below the threshold is returned",
    "You return the first number of steps over which too *little* is left.",
)
def _(norms, threshold):
    return int(np.argmax(norms < threshold))


@memory_horizon.form("first-forgotten-step")
def _(norms, threshold):
    below = np.flatnonzero(norms < threshold)
    return int(below[0]) if below.size else len(norms)


@memory_horizon.form("first-forgotten-step")
def _(norms, threshold):
    below = np.flatnonzero(norms < threshold)
    return int(below[0]) if below.size else len(norms) - 1


@memory_horizon.mistake(
    "strictly-above",
    "a norm equal to the threshold does not count",
    "`>=` and `>` differ only where a norm meets the threshold exactly. Read the definition again.",
)
def _(norms, threshold):
    found = np.flatnonzero(norms > threshold)
    return int(found[-1]) if found.size else 0


@memory_horizon.mistake(
    "one-too-many",
    "positions are counted from 1",
    "Entry 0 belongs to 0 steps, so a position *is* a number of steps.",
)
def _(norms, threshold):
    found = np.flatnonzero(norms >= threshold)
    return int(found[-1]) + 1 if found.size else 0


@memory_horizon.form("one-too-many")
def _(norms, threshold):
    found = np.flatnonzero(norms >= threshold)
    return (int(found[-1]) if found.size else 0) + 1


@memory_horizon.mistake(
    "one-too-few",
    "the result is one step too short",
    "Entry 0 belongs to 0 steps, so a position *is* a number of steps: nothing to subtract.",
)
def _(norms, threshold):
    found = np.flatnonzero(norms >= threshold)
    return max(int(found[-1]) - 1, 0) if found.size else 0


@memory_horizon.form("one-too-few")
def _(norms, threshold):
    found = np.flatnonzero(norms >= threshold)
    return int(found[-1]) - 1 if found.size else 0


@memory_horizon.mistake(
    "counted",
    "the norms above the threshold are counted",
    "A count loses the position: if norms dip and rise again, it is too small; and entry 0 belongs "
    "to 0 steps.",
)
def _(norms, threshold):
    return int(np.sum(norms >= threshold))


@memory_horizon.form("counted")
def _(norms, threshold):
    return max(int(np.sum(norms >= threshold)) - 1, 0)


@memory_horizon.form("counted")
def _(norms, threshold):
    return int(np.sum(norms[1:] >= threshold))


@memory_horizon.form("counted")
def _(norms, threshold):
    return int(np.sum(norms >= threshold)) - 1


@memory_horizon.mistake(
    "first-remembered",
    "the first norm above the threshold is returned, not the last",
    "`argmax` of a bool array finds the *first* True, which is mostly step 0.",
)
def _(norms, threshold):
    return int(np.argmax(norms >= threshold))


@memory_horizon.mistake(
    "threshold-ignored",
    "the threshold is always 1/e",
    "Use the argument: how much counts as remembered is the caller's choice.",
)
def _(norms, threshold):
    found = np.flatnonzero(norms >= 1 / np.e)
    return int(found[-1]) if found.size else 0


@memory_horizon.mistake(
    "relative-to-the-largest",
    "the threshold is taken relative to the largest norm",
    "A norm is a factor already, relative to 0 steps. A network that first amplifies has no worse "
    "memory for that.",
)
def _(norms, threshold):
    found = np.flatnonzero(norms >= threshold * norms.max())
    return int(found[-1]) if found.size else 0


@memory_horizon.mistake(
    "all-when-none",
    "T is returned where no norm reaches the threshold",
    "Where nothing is remembered, the horizon is 0 steps. What does your search return if it finds "
    "nothing?",
)
def _(norms, threshold):
    return int(len(norms) - 1 - np.argmax(norms[::-1] >= threshold))


@memory_horizon.mistake(
    "minus-one-when-none",
    "-1 is returned where no norm reaches the threshold",
    "A number of steps is never negative: where nothing is remembered, the horizon is 0.",
)
def _(norms, threshold):
    return max((k for k, n in enumerate(norms) if n >= threshold), default=-1)


@memory_horizon.mistake(
    "nothing-when-none",
    "the search fails where no norm reaches the threshold",
    "The last entry of an empty array is an error. Which horizon fits a network that remembers "
    "nothing?",
)
def _(norms, threshold):
    return int(np.flatnonzero(norms >= threshold)[-1])


@memory_horizon.mistake(
    "last-forgotten",
    "the last norm *below* the threshold is looked for",
    "You ask where little is left. Turn the comparison around.",
)
def _(norms, threshold):
    found = np.flatnonzero(norms <= threshold)
    return int(found[-1]) if found.size else 0


@memory_horizon.form("last-forgotten")
def _(norms, threshold):
    found = np.flatnonzero(norms < threshold)
    return int(found[-1]) if found.size else 0


@memory_horizon.mistake(
    "last-step-not-looked-at",
    "the last norm is never looked at",
    "If all norms reach the threshold, the horizon is T. Where does your range end?",
)
def _(norms, threshold):
    return max((k for k in range(len(norms) - 1) if norms[k] >= threshold), default=0)


@memory_horizon.mistake(
    "whole-number-as-float",
    "the number of steps comes back as a floating-point number",
    "A number of steps is an `int`.",
)
def _(norms, threshold):
    found = np.flatnonzero(norms >= threshold)
    return float(found[-1]) if found.size else 0.0


@memory_horizon.variant("from the far end")
def _(norms, threshold):
    for k in reversed(range(len(norms))):
        if norms[k] >= threshold:
            return k
    return 0


@memory_horizon.variant("max with default")
def _(norms, threshold):
    return max((k for k, norm in enumerate(norms) if not norm < threshold), default=0)


@memory_horizon.variant("weighted positions")
def _(norms, threshold):
    return np.max(np.arange(len(norms)) * (np.asarray(norms) >= threshold))


@memory_horizon.variant("reversed argmax")
def _(norms, threshold):
    remembered = np.asarray(norms) >= threshold
    return int(len(norms) - 1 - remembered[::-1].argmax()) if remembered.any() else 0


@memory_horizon.variant("recursion")
def _(norms, threshold):
    if len(norms) <= 1 or norms[-1] >= threshold:
        return len(norms) - 1
    return memory_horizon.variants[4].code(norms[:-1], threshold)


def _saturation_states(rng, tol, shape):
    """Return states of which some are flat by both signs, and some only by one definition."""
    edge, root = 1 - tol, np.sqrt(1 - tol)
    near = edge + (root - edge) * (0.3 + 0.4 * rng.random(3))  # above 1 - tol, slope above tol
    deep = root + (1 - root) * (0.3 + 0.4 * rng.random(7))
    flat = np.concatenate([near * [1, 1, -1], deep * [1, 1, 1, 1, 1, -1, -1]])
    n = int(np.prod(shape))
    middle = 0.9 * edge * rng.uniform(-1, 1, n - len(flat))
    return rng.permutation(np.concatenate([flat, middle])).reshape(shape)


def _saturation_cases(rng, s):
    yield Case((_saturation_states(rng, 0.25, (s.T, 3, 4)), 0.25), "states of both signs")
    yield Case((_saturation_states(rng, 0.02, (31,)), 0.02), "one axis, a small tol")
    yield Case((np.array([0.5, -0.5, 0.75, 0.25, -0.9, 0.1]), 0.5), "a state at the edge")
    yield Case((0.3 * _states(rng, s.T, s.B, s.H), 0.2), "no state is saturated")
    yield Case((-np.ones((2, 3)), 0.3), "all states are -1")
    h = 0.3 * _states(rng, 6, 2, 3)
    h[:3] = 0.99
    yield Case((h, 0.15), "saturated in the first half only")
    h = np.full((4, 2, 3), 0.99)
    h[-1] = 0.8 + 0.05 * rng.random((2, 3))
    yield Case((h, 0.1), "most states are saturated, and their mean too")


saturation = Exercise(
    name="saturation",
    reference=gradient_flow.saturation,
    section=SATURATION,
    axes={"h": "T B H", "tol": ""},
    returns=("share",),
    draw=lambda rng, s: (np.tanh(1.5 * normal(rng, s.T, s.B, s.H)), 0.15 + 0.3 * rng.random()),
    special=_saturation_cases,
)


@saturation.mistake(
    "sign-forgotten",
    "states near -1 are not counted",
    "tanh is flat at both ends. What do +0.99 and -0.99 have in common?",
)
def _(h, tol):
    return np.mean(h > 1 - tol)


@saturation.mistake(
    "counted-not-shared",
    "the states are counted, and the count is not divided by their number",
    "A share lies between 0 and 1, whatever the size of `h`.",
)
def _(h, tol):
    return float(np.sum(np.abs(h) > 1 - tol))


@saturation.mistake(
    "slope-compared",
    "the slope 1 - h² is compared with `tol`",
    "A fair measure too, but another one: `tol` is here the distance of |h| from 1.",
)
def _(h, tol):
    return np.mean(1 - h**2 < tol)


@saturation.mistake(
    "unsaturated-share",
    "the share of states that are *not* saturated is returned",
    "For states that are all -1 the answer is 1.",
)
def _(h, tol):
    return np.mean(np.abs(h) <= 1 - tol)


@saturation.mistake(
    "compared-with-tol",
    "|h| is compared with `tol`, not with 1 - `tol`",
    "`tol` is a distance from ±1. A state of 0.3 lies in the steep middle of tanh.",
)
def _(h, tol):
    return np.mean(np.abs(h) > tol)


@saturation.mistake(
    "below-tol",
    "states near 0 are counted",
    "There tanh is steepest. `tol` is a distance from ±1.",
)
def _(h, tol):
    return np.mean(np.abs(h) < tol)


@saturation.mistake(
    "edge-included",
    "states exactly at the edge are counted",
    "`>` and `>=` differ only where |h| meets 1 - tol exactly. Read the definition again.",
)
def _(h, tol):
    return np.mean(np.abs(h) >= 1 - tol)


@saturation.mistake(
    "share-per-unit",
    "the mean is taken over the first axis only",
    "One number is wanted, over all steps, sequences and units.",
)
def _(h, tol):
    return np.mean(np.abs(h) > 1 - tol, axis=0)


@saturation.mistake(
    "last-step-only",
    "only the last step is looked at",
    "A gradient passes *every* step on its way back: all of them count.",
)
def _(h, tol):
    return np.mean(np.abs(h[-1]) > 1 - tol)


@saturation.mistake(
    "divided-by-steps",
    "the count is divided by the length of the first axis",
    "`len(h)` counts steps. How many *states* does `h` hold?",
)
def _(h, tol):
    return np.sum(np.abs(h) > 1 - tol) / len(h)


@saturation.mistake(
    "percent",
    "the share is returned in percent",
    "A share lies between 0 and 1.",
)
def _(h, tol):
    return 100 * np.mean(np.abs(h) > 1 - tol)


@saturation.mistake(
    "any-saturated",
    "the answer is whether any state is saturated",
    "Nearly every network has one such state. How *many* are there?",
)
def _(h, tol):
    return float(np.any(np.abs(h) > 1 - tol))


@saturation.mistake(
    "mean-first",
    "states are averaged before they are compared",
    "A mean hides saturation: half at +1 and half at -1 has the mean 0. Compare first.",
)
def _(h, tol):
    return float(np.mean(np.abs(h)) > 1 - tol)


@saturation.form("mean-first")
def _(h, tol):
    return float(np.abs(np.mean(h)) > 1 - tol)


@saturation.mistake(
    "tol-ignored",
    "the limit is always 0.9",
    "Use the argument: how near to ±1 is flat enough is the caller's choice.",
)
def _(h, tol):
    return np.mean(np.abs(h) > 0.9)


@saturation.mistake(
    "mean-of-absolute-states",
    "the mean of |h| is returned",
    "A state of 0.5 is not half saturated: each state is or is not.",
)
def _(h, tol):
    return np.mean(np.abs(h))


@saturation.variant("both ends added")
def _(h, tol):
    return (np.mean(h > 1 - tol) + np.mean(h < tol - 1)).item()


@saturation.variant("loop")
def _(h, tol):
    flat = [abs(value) > 1 - tol for value in np.ravel(h)]
    return flat.count(True) / len(flat)


@saturation.variant("indexing")
def _(h, tol):
    return h[(h > 1 - tol) | (h < -(1 - tol))].size / h.size


@saturation.variant("count_nonzero")
def _(h, tol):
    return 1 - np.count_nonzero(np.logical_and(-1 + tol <= h, h <= 1 - tol)) / np.size(h)


@saturation.variant("mean of means")
def _(h, tol):
    return np.where(np.maximum(h, -h) > 1 - tol, 1.0, 0.0).mean(axis=0).mean()


@saturation.variant("torch inside")
def _(h, tol):
    import torch

    return (torch.tensor(np.array(h)).abs() > 1 - tol).double().mean().item()
