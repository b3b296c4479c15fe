// Labelled sliders: native range inputs, so keyboard and screen readers work. See widgets.py.
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "cirlib-sliders";
  el.append(box);
  const rows = model.get("labels").map((text, k) => {
    const [low, high, step] = ["low", "high", "step"].map((name) => model.get(name)[k]);
    const id = "cirlib-" + Math.random().toString(36).slice(2); // each widget has a copy of this module
    const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: text });
    const input = Object.assign(document.createElement("input"), { type: "range", id });
    Object.assign(input, { min: low, max: high, step });
    const output = document.createElement("output");
    output.htmlFor = id;
    box.append(label, input, output);
    const name = (value) => model.get("texts")[k][Math.round((value - low) / step)] ?? value.toFixed(2);
    const write = () => {
      output.textContent = name(input.valueAsNumber);
      input.setAttribute("aria-valuetext", output.textContent);
      input.style.setProperty("--share", (input.valueAsNumber - low) / (high - low));
    };
    input.addEventListener("input", () => {
      write();
      model.set("values", rows.map((row) => row.input.valueAsNumber));
      model.save_changes();
    });
    const hold = (held) => () => {
      if (model.get("held") === held) return;
      model.set("held", held);
      model.save_changes();
    };
    input.addEventListener("pointerdown", hold(true));
    for (const end of ["pointerup", "pointercancel", "blur"]) input.addEventListener(end, hold(false));
    // JupyterLab has shortcuts of its own on some of these keys
    input.addEventListener("keydown", (event) => event.stopPropagation());
    return { input, write };
  });
  function show() {
    model.get("values").forEach((value, k) => {
      if (rows[k].input.valueAsNumber !== value) rows[k].input.value = value;
      rows[k].write();
    });
  }
  model.on("change:values", show);
  show();
  return () => model.off("change:values", show);
}
export default { render };
