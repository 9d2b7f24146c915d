# %% rnn_step_backward
def rnn_step_backward(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h * h)
    return da @ W_xh, da @ W_hh, da.T @ x_t, da.T @ h_prev, da.sum(0)


# %% rnn_backward
def rnn_backward(dh, x, h0, h, W_xh, W_hh):
    dx = np.zeros_like(x)
    dh_next = np.zeros_like(h0)
    for t in reversed(range(len(x))):
        h_prev = h[t - 1] if t > 0 else h0
        dx[t], dh_next, dW_xh, dW_hh, db_h = rnn_step_backward(dh[t] + dh_next, x[t], h_prev, h[t], W_xh, W_hh)
    return dx, dh_next, dW_xh, dW_hh, db_h


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
    one_hot = (tokens[..., None] == np.arange(V)).astype(dout.dtype)
    return one_hot.reshape(-1, V).T @ dout.reshape(-1, dout.shape[-1])


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
