() => {
  document.getElementById("line").setAttribute("role", "status");  // read aloud when it changes
}
