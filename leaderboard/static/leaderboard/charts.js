// Drawings of the server → live charts: values beside the pointer, zoom and pan, series that can be hidden.
// Each is drawn again by Vega from the specification that the server drew it from. Where anything fails, or no script
// runs, the server's drawing stands. Colours are the page's own, by `currentColor` and custom properties.
"use strict";

(() => {
  const libraries = document.currentScript.dataset.libraries.split(" ");
  const STEP = 1.4;
  let loading;

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const load = address => new Promise((done, failed) =>
    document.head.append(element("script", { src: address, async: false, onload: done, onerror: failed })));

  const tip = element("div", { className: "chart-tip", hidden: true });
  tip.setAttribute("aria-hidden", "true"); // the point itself says the same

  const tell = (values, box) => {
    tip.hidden = !values;
    if (!values) return;
    tip.replaceChildren(...Object.entries(values).map(([name, value], position) =>
      element("p", {}, ...(position ? [element("span", { textContent: `${name}: ` })] : []), String(value))));
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(box.right + 12, document.documentElement.clientWidth - width - 8);
    const over = box.top - height - 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${over < 8 ? box.bottom + 8 : over}px`;
  };

  // Vega takes an event's place for pixels of its drawing, which the page shows larger or smaller than it is.
  let dragged = null;
  const unscaled = event => {
    if (event.type === "pointerup") dragged = null;
    const svg = dragged ?? event.target.closest?.(".live-chart svg");
    if (event.type === "pointerdown") dragged = svg;
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.width.baseVal.value;
    Object.defineProperties(event, {
      clientX: { value: box.left + (event.clientX - box.left) / scale },
      clientY: { value: box.top + (event.clientY - box.top) / scale },
    });
  };

  // What leads somewhere is a link for the keyboard as well.
  const reachable = svg => {
    for (const node of svg.querySelectorAll(".mark-symbol > *")) {
      const item = node.__data__;
      if (!item?.href) continue;
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "link");
      node.setAttribute("aria-label", Object.values(item.tooltip ?? {}).join(", "));
      node.onfocus = () => tell(item.tooltip, node.getBoundingClientRect());
      node.onblur = () => tell(null);
      node.onkeydown = event => event.key === "Enter" && node.dispatchEvent(new MouseEvent("click", event));
    }
  };

  const tools = (frame, view, { zoom = {}, series = [] }, drawn) => {
    const hint = "Drag or Shift with arrow keys to move, Ctrl with the wheel to zoom, double click to reset";
    const foot = element("div", { className: "chart-tools", title: hint });
    foot.setAttribute("role", "group");
    foot.setAttribute("aria-label", hint);
    const act = async change => { change(); await view.runAsync(); drawn(); };
    const button = (label, title, change) => {
      const made = element("button", { type: "button", className: "btn btn-outline-secondary btn-sm", textContent: label });
      made.setAttribute("aria-label", title);
      made.addEventListener("click", () => act(() => change(made)));
      return made;
    };
    const hidden = new Set();
    series.forEach((name, position) => {
      const made = button(name, `Show ${name}`, self => {
        hidden.delete(position) || hidden.add(position);
        self.setAttribute("aria-pressed", String(!hidden.has(position)));
        view.signal("hidden", [...hidden]);
      });
      made.setAttribute("aria-pressed", "true");
      if (series.length > 1) foot.append(made);
    });
    const ends = name => view.signal(name) ?? zoom[name];
    const scaled = factor => Object.keys(zoom).forEach(name => {
      const [low, high] = ends(name), middle = (low + high) / 2, half = (high - low) / 2 * factor;
      view.signal(name, [middle - half, middle + half]);
    });
    // Vega-Lite heeds a zoom whose ends are all known, so those that stay are set as well.
    const moved = (field, share) => Object.keys(zoom).forEach(name => {
      const [low, high] = ends(name), step = name.endsWith(`_${field}`) ? (high - low) * share : 0;
      view.signal(name, [low + step, high + step]);
    });
    const keys = {
      ArrowLeft: () => moved("x", -0.1), ArrowRight: () => moved("x", 0.1),
      ArrowUp: () => moved("y", 0.1), ArrowDown: () => moved("y", -0.1),
    };
    frame.addEventListener("keydown", event => {
      if (!event.shiftKey || !keys[event.key]) return;
      event.preventDefault();
      act(keys[event.key]);
    });
    if (Object.keys(zoom).length) {
      foot.append(
        button("+", "Zoom in", () => scaled(1 / STEP)),
        button("−", "Zoom out", () => scaled(STEP)),
        button("Reset", "Reset the view", () => Object.keys(zoom).forEach(name => view.signal(name, null))),
      );
    }
    return foot;
  };

  const enliven = async frame => {
    loading ??= Promise.all(libraries.map(load));
    const [answer] = await Promise.all([fetch(frame.dataset.specification), loading]);
    if (!answer.ok) throw new Error(`${answer.status} for ${answer.url}`);
    const specification = await answer.json();
    const { vega, vegaLite, vegaInterpreter } = window;
    const runtime = vega.parse(vegaLite.compile(specification).spec, null, { ast: true });
    const place = element("div", { className: "live-chart" });
    const view = new vega.View(runtime, {
      renderer: "svg", container: place, hover: false, logLevel: vega.Error, expr: vegaInterpreter.expressionInterpreter,
    });
    view.tooltip((handler, event, item, values) => tell(values, event.target.getBoundingClientRect()));
    await view.runAsync();
    const svg = place.querySelector("svg");
    const drawn = () => reachable(svg);
    frame.replaceChildren(place);
    frame.closest(".chart").querySelector(".chart-foot").append(tools(frame, view, specification.usermeta ?? {}, drawn));
    drawn();
  };

  const frames = document.querySelectorAll("[data-specification]");
  document.body.append(tip);
  for (const name of ["pointerdown", "pointermove", "pointerup", "wheel"]) {
    window.addEventListener(name, unscaled, { capture: true, passive: true });
  }
  document.addEventListener("scroll", () => tell(null), { capture: true, passive: true });
  const watching = new IntersectionObserver(seen => seen.filter(one => one.isIntersecting).forEach(({ target }) => {
    watching.unobserve(target);
    enliven(target).catch(reason => console.warn("This chart stays a drawing.", reason));
  }), { rootMargin: "200px" });
  frames.forEach(frame => watching.observe(frame));
})();
