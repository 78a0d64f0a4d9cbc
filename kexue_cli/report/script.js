// Reading off curves: the values nearest to the pointer stand below the chart.
for (const chart of document.querySelectorAll("svg[data-curves]")) {
  const curves = JSON.parse(chart.dataset.curves);
  const [left, right, low, high] = chart.dataset.x.split(" ").map(Number);
  const cursor = chart.querySelector(".cursor");
  const reading = chart.parentElement.querySelector(".reading");
  const show = (event) => {
    const box = chart.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    const wanted = low + (Math.min(Math.max(place, left), right) - left) / (right - left) * (high - low);
    let step = null;
    const values = curves.map(({ name, x, y }) => {
      let best = 0;
      for (let i = 1; i < x.length; i++) if (Math.abs(x[i] - wanted) < Math.abs(x[best] - wanted)) best = i;
      if (step === null || Math.abs(x[best] - wanted) < Math.abs(step - wanted)) step = x[best];
      return `${name} ${Number(y[best].toPrecision(5))}`;
    });
    const at = left + (step - low) / (high - low || 1) * (right - left);
    cursor.setAttribute("x1", at); cursor.setAttribute("x2", at);
    cursor.style.visibility = "visible";
    reading.textContent = `step ${step}:  ${values.join("   ")}`;
  };
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerdown", show);
  chart.addEventListener("pointerleave", () => { cursor.style.visibility = "hidden"; });
}
// Tables sort by a click on a column's head: as numbers where all cells are numbers.
for (const head of document.querySelectorAll("table.sortable th")) {
  head.tabIndex = 0;
  const sort = () => {
    const body = head.closest("table").tBodies[0], column = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    const text = (row) => row.cells[column].textContent.trim();
    const rows = [...body.rows];
    const numeric = rows.every((row) => text(row) === "" || !isNaN(parseFloat(text(row))));
    const key = (row) => numeric ? parseFloat(text(row)) : text(row);
    // Empty cells stay at the end, whichever way the rest goes.
    const empty = (row) => text(row) === "" ? 1 : 0;
    rows.sort((a, b) => empty(a) - empty(b)
      || (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (up ? 1 : -1));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
}
