// A button that sends a file in pieces that a server's websocket takes. See widgets.py.
const PIECE = 4_000_000; // bytes

function render({ model, el }) {
  const label = document.createElement("label");
  label.className = "cirlib-upload";
  label.textContent = "Open a photo of yours, or drop it";
  const input = Object.assign(document.createElement("input"), { type: "file" });
  label.append(input);
  el.append(label);

  async function send(file) {
    const about = { name: file.name, size: file.size };
    // An empty file is one empty piece, and so is one that is too large: Python says so.
    const end = file.size > model.get("limit") ? 0 : file.size;
    let start = 0;
    do {
      const piece = await file.slice(start, Math.min(start + PIECE, end)).arrayBuffer();
      model.send({ ...about, start }, undefined, [piece]);
      start += PIECE;
    } while (start < end);
  }
  input.onchange = () => {
    if (input.files.length) send(input.files[0]);
    input.value = ""; // so that the same file can be opened again
  };
  // Anywhere on the demo: the browser would open a file that is dropped beside, and leave the page.
  const drop = (event) => {
    const here = event.target.closest?.(".cirlib-demo")?.contains(label);
    if (!here || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.type === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  };
  for (const type of ["dragover", "drop"]) document.addEventListener(type, drop, true);
  return () => {
    for (const type of ["dragover", "drop"]) document.removeEventListener(type, drop, true);
  };
}
export default { render };
