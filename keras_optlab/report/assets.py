"""The page's style sheet and script."""

STYLE = """
:root{--bg:#fff;--panel:#f6f7f8;--ink:#16191d;--soft:#59616b;--line:#e4e7eb;--faint:#aab1ba;--first:#1f5fc4;--second:#c2570c;--best:#1f5fc4;--bad:#b3261e;--warn:#8a5a00;--right:#2f6fd0;--wrong:#d9660a;--over:#fff;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","Liberation Sans",Arial,sans-serif;--mono:ui-monospace,"SF Mono","Cascadia Mono",Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace}
@media screen and (prefers-color-scheme:dark){:root{--bg:#121417;--panel:#1b1e23;--ink:#e9ebee;--soft:#a0a8b2;--line:#2b3037;--faint:#626b76;--first:#7fb0ff;--second:#f2a25c;--best:#7fb0ff;--bad:#ff8a80;--warn:#e6b84a;--over:#fff}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 var(--sans);font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:56px 32px 96px}
h1{margin:0;font-size:34px;line-height:1.15;font-weight:650;letter-spacing:-.02em}
h2{margin:0 0 6px;font-size:22px;line-height:1.3;font-weight:650;letter-spacing:-.01em}
h3{margin:36px 0 10px;font-size:15px;font-weight:650}
p{margin:0 0 12px}
a{color:inherit}
code,pre{font-family:var(--mono);font-size:.86em}
section{margin-top:64px;padding-top:28px;border-top:1px solid var(--line)}
.eyebrow,.note,.chart figcaption span,small,.pairs span,.finding h3 span{color:var(--soft)}
.eyebrow{margin:0 0 6px;font-size:14px}
.lead{max-width:68ch;margin-bottom:20px;color:var(--soft);text-wrap:pretty}
.note{font-size:14px}
small{font-size:.86em}
.headline{display:grid;grid-template-columns:minmax(0,1.15fr) minmax(0,1fr);gap:24px 64px;align-items:end;margin-top:28px}
.hero{margin:0 0 10px;line-height:1}
.hero strong{display:block;font-size:88px;font-weight:680;letter-spacing:-.045em}
.hero span{display:block;margin-top:10px;font-size:16px;font-weight:600}
.headline .lead{margin:0;color:var(--ink)}
.alarm{display:inline-block;margin:18px 0 0;padding:4px 12px;border:1px solid;border-radius:6px;font-size:14px;font-weight:600}
.alarm.error{color:var(--bad)}
.alarm.warning{color:var(--warn)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:0 32px;margin:0;font-size:15px}
.facts div{display:flex;justify-content:space-between;gap:16px;padding:7px 0;border-bottom:1px solid var(--line)}
.facts dt{color:var(--soft);min-width:0}
.facts dd{margin:0;text-align:right;min-width:0}
header .facts{grid-template-columns:1fr 1fr;margin-top:20px}
.bars{list-style:none;margin:0;padding:0;font-size:14px}
.bars li{display:grid;grid-template-columns:minmax(0,136px) minmax(0,1fr) auto;gap:12px;align-items:center;padding:4px 0}
.bars b{font-weight:600;min-width:62px;text-align:right}
.bars b small{font-weight:400}
.bars.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:0 40px}
.bars.grid li{grid-template-columns:minmax(0,96px) minmax(0,1fr) auto}
.bar{display:block;overflow:visible}
.track{fill:var(--line)}
.fill.first{fill:var(--first)}.fill.soft{fill:var(--soft)}.fill.faint{fill:var(--faint)}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:8px 48px;align-items:start}
.columns>*{min-width:0}
.code{position:relative;margin:4px 0 12px}
pre{margin:0;padding:16px 18px;background:var(--panel);border-radius:8px;overflow-x:auto;line-height:1.6;white-space:pre;overflow-wrap:normal;tab-size:4}
.copy{position:absolute;top:8px;right:8px;padding:3px 10px;border:1px solid var(--line);border-radius:6px;background:var(--bg);color:var(--soft);font:13px var(--sans);cursor:pointer;opacity:0}
.code:hover .copy,.copy:focus-visible{opacity:1}
@media (hover:none){.copy{opacity:1}}
.chart{margin:20px 0 12px}
.chart figcaption{font-size:14px;line-height:1.45;margin-bottom:14px}
.chart figcaption b{font-size:15px;font-weight:650}
.chart figcaption b::first-letter{text-transform:uppercase}
.keys{display:flex;flex-wrap:wrap;gap:2px 18px;margin-top:4px;color:var(--soft);font-size:13px;align-items:center}
.key{display:inline-flex;align-items:center;gap:6px}
.sample,.ramp{overflow:visible;flex:none}
.plot{padding:2px 10px 44px 50px}
.plot>svg{display:block;overflow:visible}
svg text{font:12px var(--sans);fill:var(--soft)}
svg .y{text-anchor:end}
svg .x{text-anchor:middle}
svg .name{text-anchor:end}
.grid{stroke:var(--line)}
.axis{stroke:var(--faint)}
.curve{fill:none;stroke-width:2;vector-effect:non-scaling-stroke;stroke-linejoin:round;stroke-linecap:round}
.curve.first{stroke:var(--first)}
.curve.second{stroke:var(--second);stroke-dasharray:6 4}
.curve.best{stroke:var(--best);stroke-width:2.75}
.curve.faint{stroke:var(--faint);stroke-width:1;stroke-opacity:.7}
.curve.reference{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 4}
.area.first{fill:var(--first);fill-opacity:.16}
.dot.first{fill:var(--first)}.dot.second{fill:var(--second)}.dot.soft{fill:var(--soft);fill-opacity:.75}.dot.faint{fill:var(--faint)}.dot.best,.star.best{fill:var(--best)}
.star{stroke:var(--bg);stroke-width:1.5;paint-order:stroke}
.ring{fill:var(--bg);stroke:var(--soft);stroke-width:1.5}
.cross{fill:none;stroke:var(--bad);stroke-width:2}
.above,.below{fill:var(--soft)}
.pixels{image-rendering:pixelated}
.names .plot{padding-left:132px}
svg .small{font-size:11px}
.empty{fill:var(--panel)}
.row{fill:transparent}
.row:hover{stroke:var(--ink)}
rect.zero{fill:var(--bg)}path.zero{stroke:var(--soft);stroke-width:1.2}
rect.lost{fill:#e5484d}path.lost{stroke:#fff;stroke-width:1.2}
.defs{position:absolute}
.ramp{margin:4px 24px 6px 10px}
.matrix .plot{padding:44px 10px 8px 92px;overflow-x:auto}
.matrix.turned .plot{padding-top:84px;padding-right:48px}
.matrix .plot>svg{aspect-ratio:1;height:auto;max-width:960px}
.matrix.few .plot>svg{max-width:280px}.matrix.some .plot>svg{max-width:480px}.matrix.many .plot>svg{max-width:800px;min-width:420px}.matrix.crowd .plot>svg{min-width:900px}
.matrix.crowd text{font-size:9px}
.matrix .on,.matrix .over{text-anchor:middle;fill:var(--ink);pointer-events:none}
.matrix .over{fill:var(--over)}
.right{fill:var(--right)}.wrong{fill:var(--wrong)}
.pairs{margin:0;padding-left:22px;font-size:15px}
.pairs li{padding:3px 0}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:20px 16px}
.pictures figure{margin:0;font-size:14px;line-height:1.35}
.pictures img,.blank{display:block;width:96px;height:96px;object-fit:contain;margin-bottom:6px;border-radius:4px;background:var(--panel)}
.blank{line-height:96px;text-align:center}
.pictures span{color:var(--soft)}
.wide{overflow-x:auto;margin:20px 0 8px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:7px 14px 7px 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;overflow-wrap:normal}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom;border-bottom-color:var(--faint)}
tbody th{font-weight:500;white-space:nowrap}
.n{text-align:right;white-space:nowrap}
.rest{min-width:200px;color:var(--soft);overflow-wrap:anywhere}
.won>*{background:color-mix(in srgb,var(--best) 9%,transparent)}
.tag{padding:1px 7px;border-radius:4px;background:var(--best);color:var(--bg);font-size:12px;font-weight:600}
thead button{all:unset;cursor:pointer;font:inherit;color:inherit}
thead button:focus-visible,.wide:focus-visible,pre:focus-visible{outline:2px solid var(--first);outline-offset:2px}
th[aria-sort=ascending] button::after{content:" ↑"}th[aria-sort=descending] button::after{content:" ↓"}
details{margin:12px 0}
summary{cursor:pointer;font-size:15px;font-weight:600}
.finding{margin:16px 0;padding:16px 20px;border:1px solid var(--line);border-left-width:4px;border-radius:8px}
.finding.error{border-left-color:var(--bad)}.finding.warning{border-left-color:var(--warn)}.finding.info{border-left-color:var(--first)}
.finding h3{margin:0 0 6px}
.finding h3 span{font-weight:400}
.finding p{max-width:76ch;margin-bottom:8px}
.finding .facts{font-size:14px;margin-bottom:12px}
.finding .code{margin-bottom:0}
.sign{vertical-align:-2px;margin-right:7px}
.error>h3 .shape{fill:var(--bad)}.warning>h3 .shape{fill:none;stroke:var(--warn);stroke-width:1.6}.info>h3 .shape{fill:none;stroke:var(--first);stroke-width:1.6}
.error>h3 .stroke{stroke:var(--bg);stroke-width:2}.warning>h3 .stroke{stroke:var(--warn);stroke-width:1.8}.info>h3 .stroke{stroke:var(--first);stroke-width:1.8}
.under{margin-top:12px}
@media (max-width:720px){
main{padding:28px 16px 56px}
section{margin-top:44px;padding-top:22px}
h1{font-size:28px}
.headline{grid-template-columns:1fr;gap:28px}
.hero strong{font-size:72px}
.names .plot{padding-left:104px}.names svg .small{font-size:9px}
.matrix .plot{padding-left:64px}
.matrix text{font-size:11px}
.bars li{grid-template-columns:minmax(0,110px) minmax(0,1fr) auto}
}
@media print{
body{font-size:11pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}
main{max-width:none;padding:0}
.copy{display:none}
section{margin-top:28px}
pre{white-space:pre-wrap;overflow-wrap:anywhere}
figure,.finding,tr,.bars li{break-inside:avoid}
h2,h3{break-after:avoid}
.wide,.matrix .plot{overflow:visible}
}
"""

SCRIPT = """
"use strict";
document.querySelectorAll(".code").forEach(box => {
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "Copy";
  button.onclick = async () => {
    await navigator.clipboard.writeText(box.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  if (navigator.clipboard) box.append(button);
});
document.querySelectorAll("table.sortable").forEach(table => {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, i) => row.cells[i].dataset.v === undefined ? row.cells[i].textContent.trim() : Number(row.cells[i].dataset.v);
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.onclick = () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const empty = v => v === "" || v === "–";
      body.append(...[...body.rows].sort((a, b) => {
        const x = value(a, i), y = value(b, i);
        if (empty(x) || empty(y)) return empty(x) - empty(y);
        return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true}));
      }));
    };
  });
});
"""
