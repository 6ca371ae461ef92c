"use strict";
(() => {
  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const themes = ["as the system", "light", "dark"];
  let chosen = 0;
  let printing = false;

  const themeNow = () => (printing ? "light" : chosen ? themes[chosen] : systemDark.matches ? "dark" : "light");

  // Charts: Plotly knows no variables of CSS, so each is drawn with the colours that they stand for now.
  const charts = [...document.querySelectorAll("figure.chart")].map((figure) => ({
    figure,
    plot: figure.querySelector(".plot"),
    content: JSON.parse(figure.querySelector("script").textContent),
  }));

  function resolve(value, style) {
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
    }
    if (typeof value !== "string" || !value.startsWith("var(--")) return value;
    return style.getPropertyValue(value.slice(4, -1)).trim();
  }

  function layoutOf(chart, style) {
    const [content, width] = [chart.content, chart.plot.clientWidth];
    const axis = { color: style.getPropertyValue("--muted"), gridcolor: style.getPropertyValue("--line"), zeroline: false,
      automargin: true, title: { standoff: 8 } };
    const own = resolve(content.layout, style);
    const merged = (name) => ({ ...axis, ...own[name], title: { ...axis.title, ...(own[name] || {}).title } });
    return {
      height: chart.plot.clientHeight, width: printing ? width : undefined, autosize: !printing,
      margin: { l: 8, r: 20, t: 12, b: 8, pad: 4 }, ...own,
      xaxis: merged("xaxis"), yaxis: merged("yaxis"),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: width < 500 ? 11 : 13,
        color: style.getPropertyValue("--text") },
      hoverlabel: { bgcolor: style.getPropertyValue("--surface"), bordercolor: style.getPropertyValue("--line"),
        font: { color: style.getPropertyValue("--text") } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    };
  }

  function draw(chart) {
    const style = getComputedStyle(root);
    const pressed = [...chart.figure.querySelectorAll(".toggle")].map((button) => button.getAttribute("aria-pressed") === "true");
    const traces = resolve(chart.content.data, style);
    traces.forEach((trace, i) => {
      trace.visible = pressed.length ? pressed[i] : true;
      if (trace.type === "bar") trace.marker.line = { width: 0 };
      if (trace.colorbar) trace.colorbar.tickfont = { color: style.getPropertyValue("--muted") };
    });
    return Plotly.react(chart.plot, traces, layoutOf(chart, style),
      { displayModeBar: false, responsive: true, doubleClick: "reset" });
  }

  async function drawAll() {
    root.dataset.theme = themeNow();
    root.toggleAttribute("data-printing", printing);
    for (const chart of charts) await draw(chart);
    root.dataset.drawn = String(charts.length);
  }

  for (const chart of charts) {
    for (const button of chart.figure.querySelectorAll(".toggle")) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
        draw(chart);
      });
    }
  }

  const themeButton = document.getElementById("theme");
  themeButton.addEventListener("click", () => {
    chosen = (chosen + 1) % themes.length;
    themeButton.textContent = `Theme: ${themes[chosen]}`;
    drawAll();
  });
  systemDark.addEventListener("change", drawAll);
  addEventListener("beforeprint", () => { printing = true; drawAll(); });
  addEventListener("afterprint", () => { printing = false; drawAll(); });

  // Commands
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const text = button.previousElementSibling.textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(button.previousElementSibling);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  // Event frames: all recordings of a run show the same step.
  for (const player of document.querySelectorAll(".player")) {
    const pictures = [...player.parentElement.querySelectorAll(".picture[data-frames]")];
    const [button, slider, output] = ["button", "input", "output"].map((tag) => player.querySelector(tag));
    const last = Number(slider.max);
    let timer = 0;
    const show = () => {
      output.textContent = `${slider.value} of ${last}`;
      for (const picture of pictures) {
        const frames = Number(picture.dataset.frames);
        const frame = Math.min(Number(slider.value), frames) - 1;
        picture.style.backgroundPosition = `0 ${frames > 1 ? (100 * frame) / (frames - 1) : 0}%`;
      }
    };
    const play = (on) => {
      clearInterval(timer);
      timer = on ? setInterval(() => { slider.value = String((Number(slider.value) % last) + 1); show(); }, Math.max(60, 1600 / last)) : 0;
      button.textContent = on ? "Pause" : "Play";
    };
    button.addEventListener("click", () => play(!timer));
    slider.addEventListener("input", () => { play(false); show(); });
    show();
    play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  }

  drawAll();
})();
