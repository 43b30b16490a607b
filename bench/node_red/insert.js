const values = [];
for (let n = 1; n <= msg.payload.length; n += 4) {
  values.push("($" + n + ", $" + (n + 1) + ", $" + (n + 2) + ", $" + (n + 3) + ")");
}
await context.get("pool").query(
  "INSERT INTO measurement (time, device, metric, value) VALUES " + values.join(", "), msg.payload);
