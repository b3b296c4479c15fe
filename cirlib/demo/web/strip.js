// Thumbnails to click, cut from one sheet. See elements.py for the traits.
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "cirlib-strip";
  el.append(box);
  const columns = model.get("columns");
  box.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  const captions = model.get("captions");
  const rows = Math.ceil(captions.length / columns);
  const thumbs = captions.map((caption, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "cirlib-thumb";
    button.title = caption;
    button.setAttribute("aria-label", "effect: " + caption);
    const [x, y] = [k % columns, Math.floor(k / columns)];
    button.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    button.style.backgroundPosition = `${(100 * x) / (columns - 1)}% ${rows > 1 ? (100 * y) / (rows - 1) : 0}%`;
    button.onclick = () => model.send({ clicked: k });
    box.append(button);
    return button;
  });
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
  }
  const listeners = { "change:sheet": draw, "change:ratio": draw, "change:current": mark };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  draw();
  mark();
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    if (url) URL.revokeObjectURL(url);
  };
}
export default { render };
