# %% rnn_step_backward
def rnn_step_backward(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h * h)
    return da @ W_xh, da @ W_hh, da.T @ x_t, da.T @ h_prev, da.sum(0)


# %% rnn_backward
def rnn_backward(dh, x, h0, h, W_xh, W_hh):
    da = np.empty_like(h)
    g = np.zeros_like(h0)
    for t in range(len(h) - 1, -1, -1):
        da[t] = (dh[t] + g) * (1 - h[t] ** 2)
        g = da[t] @ W_hh
    before = np.concatenate([h0[None], h[:-1]])
    return da @ W_xh, g, np.tensordot(da, x, ([0, 1], [0, 1])), np.tensordot(da, before, ([0, 1], [0, 1])), da.sum((0, 1))


# %% cross_entropy_backward
def cross_entropy_backward(logits, targets, mask=None):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    p = p - np.eye(logits.shape[-1])[np.where(True if mask is None else mask, targets, 0)]
    if mask is None:
        return p / targets.size
    return p * np.asarray(mask)[..., None] / max(np.sum(mask), 1)


# %% embedding_backward
def embedding_backward(dout, tokens, V):
    dE = np.zeros((V, dout.shape[-1]))
    dE[tokens] += dout
    return dE


# %% numerical_gradient
def numerical_gradient(f, a, eps=1e-5):
    g = np.zeros(a.shape)
    for i in np.ndindex(a.shape):
        e = np.zeros(a.shape)
        e[i] = eps
        g[i] = (f(a + e) - f(a - e)) / (2 * eps)
    return g


# %% relative_error
def relative_error(a, b):
    scale = np.linalg.norm(a) + np.linalg.norm(b)
    return 0.0 if scale == 0 else np.linalg.norm(a - b) / scale
