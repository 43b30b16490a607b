// Node-RED without editor or HTTP: it only runs the flow. https://nodered.org/docs/user-guide/runtime/configuration
module.exports = {
  credentialSecret: false,
  functionGlobalContext: { pg: require("pg") },
  httpAdminRoot: false,
  httpNodeRoot: false,
  logging: { console: { level: "warn", metrics: false, audit: false } },
  telemetry: { enabled: false, updateNotification: false },
};
