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
})();
