// Thumbnails to choose from, cut from one sheet. See widgets.py for the traits.
function render({ model, el }) {
  const make = (tag, name, parent, attributes = {}) => {
    const node = document.createElement(tag);
    node.className = name;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  };
  const [captions, groups, columns] = ["captions", "groups", "columns"].map((name) => model.get(name));
  const side = Math.sqrt(columns); // of a block
  const said = make("p", "cirlib-caption", el);
  const say = (text) => (said.textContent = text);
  const box = make("div", "cirlib-strip", el, { role: "toolbar", "aria-label": "27 versions" });
  const blocks = groups.map((name) => {
    const block = make("div", "cirlib-block", box, { role: "group", "aria-label": name });
    make("div", "cirlib-blockname", block).textContent = name;
    block.style.gridTemplateColumns = `repeat(${side}, minmax(0, 1fr))`;
    return block;
  });
  const thumbs = captions.map((caption, k) => {
    const [x, y] = [k % columns, Math.floor(k / columns)];
    const button = make("button", "cirlib-thumb", blocks[y], { type: "button", "aria-label": "version: " + caption });
    button.style.backgroundSize = `${100 * columns}% ${100 * groups.length}%`;
    button.style.backgroundPosition = `${(100 * x) / (columns - 1)}% ${(100 * y) / (groups.length - 1)}%`;
    button.onclick = () => model.send({ clicked: k });
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => say(caption));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => say(model.get("hint")));
    return button;
  });
  // One stop of the tab key; arrows go on from there, as the eye does.
  const place = (k) => [side * Math.floor(k / columns) + (k % side), Math.floor((k % columns) / side)];
  const at = (x, y) => columns * Math.floor(x / side) + side * y + (x % side);
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  box.addEventListener("keydown", (event) => {
    event.stopPropagation(); // JupyterLab has shortcuts of its own on these keys
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    const [x, y] = place(thumbs.indexOf(event.target)).map((n, k) => n + step[k]);
    if (x < 0 || y < 0 || x >= side * groups.length || y >= side) return;
    stop(at(x, y));
    thumbs[at(x, y)].focus();
  });
  function stop(there) {
    thumbs.forEach((button, k) => (button.tabIndex = k === there ? 0 : -1));
  }
  let url = null;
  function draw() {
    const bytes = model.get("sheet");
    const old = url;
    url = bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : null;
    for (const button of thumbs) {
      button.style.backgroundImage = url ? `url(${url})` : "none";
      button.style.aspectRatio = String(model.get("ratio"));
    }
    if (old) setTimeout(() => URL.revokeObjectURL(old), 1000);
  }
  function mark() {
    const current = model.get("current");
    thumbs.forEach((button, k) => button.setAttribute("aria-pressed", String(k === current)));
    if (!box.contains(document.activeElement)) stop(Math.max(current, 0));
  }
  const listeners = { "change:sheet": draw, "change:ratio": draw, "change:current": mark };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  say(model.get("hint"));
  draw();
  mark();
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    if (url) URL.revokeObjectURL(url);
  };
}
export default { render };
