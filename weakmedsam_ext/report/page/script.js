for (const viewer of document.querySelectorAll(".viewer")) {
  const frames = [...viewer.querySelectorAll(".screen svg")];
  const slider = viewer.querySelector("input[type=range]");
  const show = () => {
    frames.forEach((frame, k) => frame.classList.toggle("on", k === Number(slider.value)));
    viewer.querySelector(".place").textContent = frames[slider.value].dataset.place;
  };
  slider.addEventListener("input", show);
  viewer.querySelectorAll(".layers input").forEach((box) => box.addEventListener("change", () =>
    viewer.classList.toggle("hide" + box.value, !box.checked)));
  show();
}
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, k) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[k].dataset.value ?? row.cells[k].textContent;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
