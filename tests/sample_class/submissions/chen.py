# %% rnn_step_backward
import warnings


def _through_tanh(dh, h):
    """Shared by both functions."""
    warnings.warn("using the state, not the pre-activation")
    return np.einsum("...h,...h->...h", dh, 1.0 - np.square(h))


def rnn_step_backward(dh, x_t, h_prev, h, W_xh, W_hh, *, out=None):
    da = _through_tanh(dh, h)
    return (
        np.einsum("bh,hd->bd", da, W_xh),
        np.einsum("bh,hk->bk", da, W_hh),
        np.einsum("bh,bd->hd", da, x_t),
        np.einsum("bh,bk->hk", da, h_prev),
        np.einsum("bh->h", da),
    )


# %% rnn_backward
def rnn_backward(dh, x, h0, h, W_xh, W_hh):
    def back(t, g):
        if t < 0:
            return [], g
        da = _through_tanh(dh[t] + g, h[t])
        rest, first = back(t - 1, np.einsum("bh,hk->bk", da, W_hh))
        return [*rest, da], first

    das, dh0 = back(len(x) - 1, np.zeros_like(h0))
    da = np.stack(das)
    states = np.vstack([h0[np.newaxis], h])[:-1]
    return (
        np.einsum("tbh,hd->tbd", da, W_xh),
        dh0,
        np.einsum("tbh,tbd->hd", da, x),
        np.einsum("tbh,tbk->hk", da, states),
        np.einsum("tbh->h", da),
    )


# %% cross_entropy_backward
def cross_entropy_backward(logits, targets, mask=None):
    if mask is None:
        mask = np.ones(targets.shape, dtype=bool)
    mask = np.asarray(mask, dtype=bool)
    result = np.zeros_like(logits)
    if mask.any():
        chosen = logits[mask]
        q = np.exp(chosen - np.logaddexp.reduce(chosen, axis=-1, keepdims=True))
        q[np.arange(len(q)), targets[mask]] -= 1
        result[mask] = q / len(q)
    return result


# %% embedding_backward
def embedding_backward(dout, tokens, V):
    flat = dout.reshape(-1, dout.shape[-1])
    return np.stack([np.bincount(tokens.ravel(), weights=column, minlength=V) for column in flat.T], axis=1)


# %% numerical_gradient
def numerical_gradient(f, a, eps=1e-5):
    unit = np.eye(a.size).reshape(a.size, *a.shape) * eps
    return np.reshape([(f(a + e) - f(a - e)) / (2 * eps) for e in unit], a.shape)


# %% relative_error
def relative_error(a, b):
    with np.errstate(invalid="ignore"):
        ratio = np.linalg.norm(np.ravel(a - b)) / (np.linalg.norm(np.ravel(a)) + np.linalg.norm(np.ravel(b)))
    return np.nan_to_num(ratio)
