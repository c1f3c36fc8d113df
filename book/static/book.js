// What every page does besides the theme's own scripts. Plain script: it also runs where a page is opened as a file.
(() => {
  "use strict";

  // The contents of a phone cover the page: a followed entry closes them.
  for (const dialog of document.querySelectorAll("dialog"))
    dialog.addEventListener("click", (event) => { if (event.target.closest("a[href*='#']")) dialog.close(); });

  // The contents show which section is being read.
  const entries = [...document.querySelectorAll("#pst-page-toc-nav a[href^='#']")].map((link) => (
    {link, section: document.getElementById(decodeURIComponent(link.hash.slice(1)))})).filter((entry) => entry.section);
  let waiting = false;
  const show = () => {
    waiting = false;
    const last = innerHeight + scrollY >= document.documentElement.scrollHeight - 2 && scrollY > 0;
    const read = entries.findLast(({section}) => section.getBoundingClientRect().top < (last ? innerHeight : 130));
    for (const item of document.querySelectorAll("#pst-page-toc-nav .active")) item.classList.remove("active");
    read?.link.classList.add("active");
    for (let item = read?.link.closest("li"); item; item = item.parentElement.closest("li")) item.classList.add("active");
  };
  if (entries.length) {
    addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(show); } }, {passive: true});
    setTimeout(show, 300);
  }

  const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
  const make = (tag, values, ...children) => {
    const made = Object.assign(document.createElement(tag), values);
    made.append(...children);
    return made;
  };

  // Search: sections of all pages, from the index that Pagefind made. A page opened as a file may not read it and keeps
  // the theme's own search. JOINT stands for the underscore of a name (tools/search_index.py).
  const JOINT = "\ua78f";
  const query = (text) => text.replace(/\b_*[A-Za-z]\w*_\w*/g, (name) => JOINT + name.replaceAll("_", JOINT));
  const shown = (text) => text.replace(/(?<![\w\ua78f])\ua78f/g, "").replaceAll(JOINT, "_");
  const plain = (html) => make("textarea", {innerHTML: html}).value;
  let index;
  const pagefind = () => index ??= import(new URL("pagefind/pagefind.js", root)).then(async (found) => {
    await found.options({excerptLength: 22, baseUrl: root.pathname});
    await found.init();
    return found;
  });

  function hit({url, meta, excerpt}) {
    const text = make("p");
    for (const [i, part] of shown(excerpt).split(/<\/?mark>/).entries())
      text.append(i % 2 ? make("mark", {textContent: plain(part)}) : plain(part));
    const title = shown(meta.title);
    const page = meta.page === title ? "" : meta.page;
    return make("li", {}, make("a", {href: url}, make("strong", {textContent: title}), " ",
      make("span", {className: "hit-page", textContent: page})), text);
  }

  function answersBelow(form) {
    const input = form.querySelector("input[type=search]");
    const status = make("p", {className: "hits-status", role: "status"}), list = make("ol", {className: "hits"});
    form.after(status, list);
    let asked = "";
    const find = async () => {
      const text = input.value.trim();
      if (text === asked) return;
      asked = text;
      if (!text) { status.textContent = ""; list.replaceChildren(); return; }
      try {
        const {results} = await (await pagefind()).search(query(text));
        const hits = await Promise.all(results.slice(0, 15).map((result) => result.data()));
        if (text !== asked) return;
        status.textContent = results.length ? `${results.length} ${results.length === 1 ? "section" : "sections"}` : `Nothing found for “${text}”.`;
        list.replaceChildren(...hits.map(hit));
        status.dataset.asked = text;
      } catch (error) {
        status.textContent = `The search does not answer: ${error.message}`;
      }
    };
    input.addEventListener("input", () => setTimeout(find, 120));
    form.addEventListener("submit", async (event) => { event.preventDefault(); await find(); list.querySelector("a")?.click(); });
    form.parentElement.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      const stops = [input, ...list.querySelectorAll("a")];
      const next = stops.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      if (stops[next]) { event.preventDefault(); stops[next].focus(); }
    });
    list.addEventListener("click", (event) => { if (event.target.closest("a")) form.closest("dialog")?.close(); });
    return find;
  }

  if (location.protocol !== "file:") {
    for (const form of document.querySelectorAll("#pst-search-dialog form")) answersBelow(form);
    const own = document.querySelector("#search-results");
    if (own) {   // the page search.html
      const form = document.querySelector("main form");
      form.querySelector("input").value = new URLSearchParams(location.search).get("q") ?? "";
      own.hidden = true;
      answersBelow(form)();
    }
  }
})();
