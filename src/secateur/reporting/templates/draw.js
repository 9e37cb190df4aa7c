(async function () {
  "use strict";
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const hovers = matchMedia("(hover: hover)").matches;

  // Plotly lies in the page packed, and runs only if it is the very code whose digest the page allows.
  async function load() {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  // Named buttons only: none of them leaves the page. Small plots and touch screens have no room for any.
  function config(plot) {
    return {
      displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "",
      displayModeBar: hovers && !plot.closest(".many") ? "hover" : false,
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      toImageButtonOptions: { filename: plot.id, scale: 2 },
    };
  }

  // Colours are CSS variables, so that plots follow the reader's scheme.
  function painted(value, key, style) {
    if (typeof value === "string") {
      const found = /color$/.test(key) && /^var\((--[a-z-]+)\)$/.exec(value);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => painted(item, key, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, painted(item, name, style)]));
  }

  function draw(plot) {
    const figure = painted(figures[plot.id], "", getComputedStyle(root));
    Plotly.react(plot, figure.data, { ...figure.layout, width: plot.clientWidth }, config(plot));
  }

  function drawAll() {
    plots.filter((plot) => plot.clientWidth > 0).forEach(draw);
  }

  // Where there are many plots, the reader picks which one is seen; it is drawn when it is.
  function pick(select) {
    const cells = [...select.closest("section").querySelectorAll(".cell")];
    cells.forEach((cell, place) => { cell.hidden = place !== select.selectedIndex; });
    drawAll();
  }

  function follow() {
    let waiting = 0;
    new ResizeObserver(() => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(() => { if (!root.hasAttribute("data-print")) drawAll(); });
    }).observe(document.querySelector("main"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    // On paper: light colours, and plots as wide as the sheet.
    addEventListener("beforeprint", () => {
      root.setAttribute("data-print", "");
      drawAll();
    });
    addEventListener("afterprint", () => {
      root.removeAttribute("data-print");
      drawAll();
    });
  }

  try {
    await load();
    root.dataset.plots = "drawn";
    document.querySelectorAll("select").forEach((select) => {
      select.closest("p").hidden = false;
      select.addEventListener("change", () => pick(select));
      pick(select);
    });
    drawAll();
    follow();
  } catch (error) {
    root.dataset.plots = "failed";
    console.error(error);
  }
})();
