// A family of curves with a slider, drawn from the JSON that rnncourse.plots.SliderFigure writes.
// Until this runs, and without JavaScript, the element shows the plain figure it contains.
const LEFT = 64, RIGHT = 14, TOP = 14, BOTTOM = 48;
const DASHES = ["", "7 4", "9 3 2 3", "2 3", "12 3", "6 3 2 3 2 3", "1 2"];

const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const minus = (text) => String(text).replace("-", "−");

function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step)
    found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return found;
}

class RnnSlider extends HTMLElement {
  connectedCallback() {
    const ready = () => this.querySelector('script[type="application/json"]');
    if (this.data) return;
    if (ready()?.nextSibling) return this.build();
    // The element may be upgraded before the parser has reached its children.
    addEventListener("DOMContentLoaded", () => ready() && this.build(), { once: true });
  }

  build() {
    const d = (this.data = JSON.parse(this.querySelector("script").textContent));
    // Drawn at the width it has, so that the labels keep their size on a phone.
    const W = Math.min(640, Math.max(320, this.clientWidth || 640));
    const H = W < 480 ? 300 : 340;
    const id = `slider-${[...document.querySelectorAll("rnn-slider")].indexOf(this)}`;
    const scale = d.log ? Math.log10 : (v) => v;
    const [y0, y1] = [scale(d.low), scale(d.high)];
    const [x0, x1] = [d.x[0], d.x.at(-1)];
    this.X = (v) => LEFT + ((v - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
    this.Y = (v) => TOP + ((y1 - scale(v)) / (y1 - y0)) * (H - TOP - BOTTOM);

    let grid = "";
    const decades = Math.max(1, Math.ceil((y1 - y0) / 7));
    const rows = d.log
      ? Array.from({ length: Math.floor((y1 - y0) / decades) + 1 }, (_, i) => y0 + i * decades)
      : ticks(d.low, d.high, 6);
    for (const row of rows) {
      const y = this.Y(d.log ? 10 ** row : row);
      const label = d.log
        ? `10<tspan dy="-5" font-size="10">${minus(row)}</tspan>`
        : minus(+row.toPrecision(6));
      grid += `<line class="grid" x1="${LEFT}" x2="${W - RIGHT}" y1="${y}" y2="${y}"/>
        <text x="${LEFT - 8}" y="${y + 4}" text-anchor="end">${label}</text>`;
    }
    for (const v of ticks(x0, x1, W / 90)) {
      const x = this.X(v);
      grid += `<line class="grid" x1="${x}" x2="${x}" y1="${TOP}" y2="${H - BOTTOM}"/>
        <text x="${x}" y="${H - BOTTOM + 18}" text-anchor="middle">${minus(+v.toPrecision(6))}</text>`;
    }
    const paths = d.curves[0].map((_, i) => `<path class="curve" stroke="${d.colors[i % 7]}"
      stroke-dasharray="${DASHES[i % 7]}"/>`).join("");
    const ghosts = d.curves[0].map((_, i) =>
      `<path class="ghost" d="${this.path(d.curves[d.start][i])}"/>`).join("");
    const legend = d.names.map((name, i) => `<span><svg viewBox="0 0 28 6" aria-hidden="true"><path
      d="M0 3H28" stroke="${d.colors[i % 7]}" stroke-dasharray="${DASHES[i % 7]}"/></svg>
      ${escape(name)}</span>`).join("");

    this.innerHTML = `
      <svg class="plot" viewBox="0 0 ${W} ${H}" role="img" aria-label="${escape(d.alt)}">${grid}${ghosts}${paths}
        <text x="${(LEFT + W - RIGHT) / 2}" y="${H - 6}" text-anchor="middle">${escape(d.xlabel)}</text>
        <text transform="translate(14 ${(TOP + H - BOTTOM) / 2}) rotate(-90)"
          text-anchor="middle">${escape(d.ylabel)}</text></svg>
      ${legend && `<p class="legend">${legend}</p>`}
      <p class="controls"><label for="${id}">${escape(d.parameter)}</label> = <output for="${id}" aria-live="off"></output>
      <input id="${id}" type="range" min="0" max="${d.values.length - 1}" step="1" value="${d.start}"></p>
      <p class="note" aria-live="polite"></p>`;
    this.curves = [...this.querySelectorAll(".curve")];
    this.input = this.querySelector("input");
    this.input.addEventListener("input", () => this.show(+this.input.value));
    this.show(d.start);
  }

  path(values) {
    const points = values.map((v, i) => `${this.X(this.data.x[i]).toFixed(1)} ${this.Y(v).toFixed(1)}`);
    return `M${points.join("L")}`;
  }

  show(position) {
    const d = this.data;
    this.curves.forEach((curve, i) => curve.setAttribute("d", this.path(d.curves[position][i])));
    const value = minus(+d.values[position].toPrecision(4));
    this.querySelector("output").textContent = value;
    this.input.setAttribute("aria-valuetext", value);
    this.querySelector(".note").textContent = d.notes[position] ?? "";
  }
}

customElements.define("rnn-slider", RnnSlider);
