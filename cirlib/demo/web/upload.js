// A button that sends a file in pieces that a server's websocket takes. See widgets.py.
const PIECE = 4_000_000; // bytes

function render({ model, el }) {
  const label = document.createElement("label");
  label.className = "cirlib-upload";
  label.textContent = "Open a photo of yours";
  const input = Object.assign(document.createElement("input"), { type: "file" });
  label.append(input);
  const note = document.createElement("div");
  note.className = "cirlib-note";
  note.setAttribute("role", "status");
  el.append(label, note);

  async function send(file) {
    const limit = model.get("limit");
    note.textContent = "";
    if (file.size > limit) {
      const megabytes = (bytes) => (bytes / 1e6).toFixed(1) + " MB";
      note.textContent = `${file.name} has ${megabytes(file.size)}, of ${megabytes(limit)} allowed: save it smaller, or cut a part out`;
      return;
    }
    let start = 0;
    do { // an empty file is one empty piece
      const piece = await file.slice(start, start + PIECE).arrayBuffer();
      model.send({ name: file.name, size: file.size, start }, undefined, [piece]);
      start += PIECE;
    } while (start < file.size);
  }
  input.onchange = () => {
    if (input.files.length) send(input.files[0]);
    input.value = ""; // so that the same file can be opened again
  };
  label.ondragover = (event) => event.preventDefault();
  label.ondrop = (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  };
}
export default { render };
