# %% rnn_step_backward
def rnn_step_backward(dh, x_t, h_prev, h, W_xh, W_hh):
    B, H = h.shape
    D = x_t.shape[1]
    dx = np.zeros((B, D))
    dh_prev = np.zeros((B, H))
    dW_xh = np.zeros((H, D))
    dW_hh = np.zeros((H, H))
    db_h = np.zeros(H)
    for b in range(B):
        for i in range(H):
            da = dh[b, i] * (1 - h[b, i] ** 2)
            db_h[i] += da
            for j in range(D):
                dW_xh[i, j] += da * x_t[b, j]
                dx[b, j] += da * W_xh[i, j]
            for j in range(H):
                dW_hh[i, j] += da * h_prev[b, j]
                dh_prev[b, j] += da * W_hh[i, j]
    return dx, dh_prev, dW_xh, dW_hh, db_h


# %% rnn_backward
def rnn_backward(dh, x, h0, h, W_xh, W_hh):
    print("T =", len(x))
    dx = []
    total = [0, 0, 0]
    carry = 0
    t = len(x)
    while t > 0:
        t = t - 1
        previous = h0 if t == 0 else h[t - 1]
        out = rnn_step_backward(dh[t] + carry, x[t], previous, h[t], W_xh, W_hh)
        dx = [out[0]] + dx
        carry = out[1]
        for k in range(3):
            total[k] = total[k] + out[2 + k]
    return np.array(dx), carry, total[0], total[1], total[2]


# %% cross_entropy_backward
def cross_entropy_backward(logits, targets, mask=None):
    out = np.zeros(logits.shape)
    count = 0
    for where in np.ndindex(targets.shape):
        if mask is not None and not mask[where]:
            continue
        count += 1
        row = np.exp(logits[where] - max(logits[where]))
        out[where] = row / sum(row)
        out[where][targets[where]] -= 1
    return out / max(count, 1)


# %% embedding_backward
def embedding_backward(dout, tokens, V):
    dE = np.zeros((V, dout.shape[-1]))
    for where in np.ndindex(tokens.shape):
        dE[tokens[where]] += dout[where]
    return dE


# %% numerical_gradient
def numerical_gradient(f, a, eps=1e-5):
    flat = [float(v) for v in a.reshape(-1)]
    grad = []
    for i in range(len(flat)):
        up = list(flat)
        down = list(flat)
        up[i] += eps
        down[i] -= eps
        grad.append((f(np.array(up).reshape(a.shape)) - f(np.array(down).reshape(a.shape))) / (2 * eps))
    return np.array(grad).reshape(a.shape)


# %% relative_error
def relative_error(a, b):
    import math
    def size(v):
        return math.sqrt(sum(float(e) ** 2 for e in np.ravel(v)))
    if size(a) + size(b) == 0:
        return 0.0
    return size(np.subtract(a, b)) / (size(a) + size(b))
