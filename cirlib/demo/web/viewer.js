// Before and after of one photo: a movable split, zoom and pan. See widgets.py for the traits.
const SCALES = [["Fit", 0], ["100%", 1], ["200%", 2]]; // screen pixels per pixel of the photo

function render({ model, el }) {
  const make = (tag, name, parent, attributes = {}) => {
    const node = document.createElement(tag);
    node.className = name;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  };
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

  const frame = make("div", "cirlib-viewer", el);
  const stage = make("div", "cirlib-stage", frame, {
    tabindex: "0", role: "group",
    "aria-label": "photo: plus and minus zoom, arrow keys pan, 0 fits",
  });
  const layers = ["before", "after"].map((name) => {
    const layer = make("div", "cirlib-layer", stage);
    const image = make("img", "cirlib-" + name, layer, { alt: "", draggable: "false" });
    return { name, layer, image, url: null };
  });
  make("span", "cirlib-tag cirlib-left", stage).textContent = "Before";
  make("span", "cirlib-tag cirlib-right", stage).textContent = "After";
  const line = make("div", "cirlib-line", stage, {
    role: "slider", tabindex: "0", "aria-label": "split between before and after",
    "aria-valuemin": "0", "aria-valuemax": "100",
  });
  const bar = make("div", "cirlib-progress", stage, {
    role: "progressbar", "aria-label": "full resolution", "aria-valuemin": "0", "aria-valuemax": "100",
  });

  const tools = make("div", "cirlib-tools", frame);
  const buttons = SCALES.map(([text, scale]) => {
    const button = make("button", "cirlib-zoom", tools, { type: "button" });
    button.textContent = text;
    button.onclick = () => zoom(scale);
    return button;
  });
  const size = make("span", "cirlib-size", tools);
  make("span", "cirlib-hint", tools).textContent = "drag the line to compare, the photo to pan";

  let fixed = 0; // one of SCALES
  let centre = [0.5, 0.5]; // of the view, in fractions of the photo

  function place() {
    const photo = [model.get("width"), model.get("height")];
    const room = [stage.clientWidth, stage.clientHeight];
    if (!photo[0] || !room[0]) return;
    // A CSS pixel may be several of the screen's: 100% means the screen's.
    const scale = fixed ? fixed / window.devicePixelRatio : Math.min(room[0] / photo[0], room[1] / photo[1]);
    const extent = photo.map((n) => n * scale);
    const origin = room.map((space, k) => {
      if (extent[k] <= space) return (space - extent[k]) / 2;
      const half = space / 2 / extent[k];
      centre[k] = clamp(centre[k], half, 1 - half);
      return space / 2 - centre[k] * extent[k];
    });
    for (const { image } of layers) {
      Object.assign(image.style, {
        width: extent[0] + "px", height: extent[1] + "px",
        left: origin[0] + "px", top: origin[1] + "px",
        imageRendering: fixed > 1 ? "pixelated" : "auto",
      });
    }
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(SCALES[k][1] === fixed)));
    const percent = Math.round(100 * scale * window.devicePixelRatio);
    size.textContent = `${photo[0]} × ${photo[1]}, shown at ${percent}%`;
  }
  function zoom(scale) {
    fixed = scale;
    place();
  }
  function pan(x, y) { // by CSS pixels
    const { offsetWidth, offsetHeight } = layers[0].image;
    centre = [centre[0] - x / offsetWidth, centre[1] - y / offsetHeight];
    place();
  }
  function showSplit() {
    const percent = 100 * model.get("split");
    layers[1].layer.style.clipPath = `inset(0 0 0 ${percent}%)`;
    line.style.left = percent + "%";
    line.setAttribute("aria-valuenow", String(Math.round(percent)));
  }
  function moveSplit(value) {
    model.set("split", clamp(value, 0, 1));
    model.save_changes();
  }
  function showProgress() {
    const share = model.get("progress");
    bar.hidden = share >= 1;
    bar.style.width = 100 * share + "%";
    bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  }
  function load(entry) {
    const bytes = model.get(entry.name);
    if (!bytes || !bytes.byteLength) { // of another photo
      entry.seen = false;
      entry.image.removeAttribute("src");
      entry.image.alt = "";
      return;
    }
    const [old, url] = [entry.url, URL.createObjectURL(new Blob([bytes], { type: "image/png" }))];
    [entry.url, entry.bytes, entry.seen] = [url, bytes, false];
    entry.image.onload = () => {
      if (old) URL.revokeObjectURL(old);
      entry.seen = true;
      tell();
    };
    entry.image.src = url;
  }
  // The text is that of the picture that is seen: not before it is loaded, but also when another
  // task has made the same pixels, for which no new picture comes.
  function showStale() {
    stage.classList.toggle("cirlib-stale", model.get("stale"));
  }
  function tell() {
    layers.forEach((entry, k) => {
      const current = entry.seen && entry.bytes === model.get(entry.name);
      if (current) entry.image.alt = model.get("texts")[k];
    });
  }
  function download(content, buffers) {
    if (!content.download) return;
    const url = URL.createObjectURL(new Blob(buffers, { type: "image/png" }));
    const link = make("a", "", frame, { href: url, download: content.download });
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  const KEYS = {
    "+": () => zoom(Math.min(fixed + 1, 2)), "=": () => zoom(Math.min(fixed + 1, 2)),
    "-": () => zoom(Math.max(fixed - 1, 0)), 0: () => zoom(0),
    ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0),
    ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
  };
  stage.addEventListener("keydown", (event) => {
    if (event.target === line || !KEYS[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    KEYS[event.key]();
  });
  line.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    moveSplit(model.get("split") + step);
  });
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    drag = { split: event.target === line, x: event.clientX, y: event.clientY };
    stage.setPointerCapture(event.pointerId);
    event.preventDefault();
    (drag.split ? line : stage).focus({ focusVisible: false });
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag.split) {
      const box = stage.getBoundingClientRect();
      moveSplit((event.clientX - box.left) / box.width);
      return;
    }
    pan(event.clientX - drag.x, event.clientY - drag.y);
    [drag.x, drag.y] = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => (drag = null));

  const listeners = { "change:split": showSplit, "change:progress": showProgress,
    "change:texts": tell, "change:stale": showStale, "msg:custom": download };
  for (const name of ["width", "height"]) listeners["change:" + name] = place;
  for (const entry of layers) listeners["change:" + entry.name] = () => load(entry);
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  const watcher = new ResizeObserver(place);
  watcher.observe(stage);
  layers.forEach(load);
  showStale();
  showSplit();
  showProgress();
  place();
  return () => {
    watcher.disconnect();
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    for (const { url } of layers) if (url) URL.revokeObjectURL(url);
  };
}
export default { render };
